"""Fifteen simple situations in which it is known what a fidelity, diversity or overall metric should say.

After Raisa, van Breugel & van der Schaar 2025, "Position: All current generative fidelity and diversity metrics are
flawed" (ICML). `python -m benchmarks.sanity` prints which metric passes which.
"""
