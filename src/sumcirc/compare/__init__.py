"""Comparison of two models on the same texts: internal differences, and what causes them."""
