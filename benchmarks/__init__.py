"""Measurements that documentation quotes: each a script, `python -m benchmarks.NAME`."""
