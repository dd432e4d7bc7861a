"""Figures from saved records, drawn with matplotlib; imports no torch."""
