"""Probes: pure measurements on a model and its documents."""
