"""What runs of a sweep found, side by side; reads saved records and imports no torch."""
