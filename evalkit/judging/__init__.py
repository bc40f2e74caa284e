"""Detectors at work on media: calibrated on the user's own samples, three verdicts with reasons, and how good they are.

`detecting` runs the command; `verdicts` is pure logic; `gathering` readies the calibration sets; `operating` is a
detector's threshold and map from scores to probabilities, made of a calibration set and kept in a file.
"""
