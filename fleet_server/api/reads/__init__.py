"""Functions that read answers from the database, on a reader's connection: it shows only rows the caller may see."""
