"""Sweeps: many runs under one name, each a process of its own, all their facts in directories."""
