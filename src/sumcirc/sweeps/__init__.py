"""Sweeps: many runs under one name, each in its own process and run directory."""
