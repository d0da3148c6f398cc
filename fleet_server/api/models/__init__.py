"""What the API answers and is asked: a module for a group of resources, every field classified (data_class.py)."""
