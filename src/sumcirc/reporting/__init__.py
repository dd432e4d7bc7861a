"""Reports on runs and sweeps, made from saved records; imports no torch."""
