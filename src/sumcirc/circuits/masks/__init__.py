"""Learned masks over edges: which few edges are enough for the model's output."""
