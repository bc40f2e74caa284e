"""Fitted detectors under stress: laundered, shrunk, by subgroup and time, attacked; thresholds set on clean reals."""
