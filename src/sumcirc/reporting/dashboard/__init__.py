"""A saved W&B workspace and report for a sweep, from what its runs logged; imports no torch."""
