"""Protocols on one score a text: recorded runs replayed, RAID's table, false positives by group of writers.

Scores come from files that any detector wrote, in any direction and on any scale, or from detectors put to work here.
Every number needs only the order of the scores, so no file has to hold probabilities.
"""
