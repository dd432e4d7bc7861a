"""Learned masks over fine-tuning's change: which few units of it are enough for the gain."""
