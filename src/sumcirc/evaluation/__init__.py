"""Summaries: generating them, scoring them, and the baselines they have to beat."""
