"""What an alarm says: evidence, and the failure mode it speaks for."""
