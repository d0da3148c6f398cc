"""Detectors: one file each; see ``api``."""
