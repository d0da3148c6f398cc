"""Detection over recordings: files read, judged by the device's own detection, written as scores."""
