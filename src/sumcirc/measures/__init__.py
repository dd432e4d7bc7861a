"""Measures of a model on fixed documents, compared with its base."""
