"""Rows -> answers. Each function runs on a reader's connection: the database shows it only what the caller may see."""
