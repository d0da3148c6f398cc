"""Is this healthy? Evidence of two planes, one state."""
