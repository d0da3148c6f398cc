"""The demonstration: the real programs, started as separate processes."""
