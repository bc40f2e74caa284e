"""Detectors across generators: fitted on one, several or all but one, tested on each, one joint bootstrap for all."""
