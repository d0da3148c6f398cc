"""Readings made ready for judging: aligned, healthy, running, not under maintenance."""
