"""What the API answers: one module per group of resources, every field classified (see sovereignty/data_class.py)."""
