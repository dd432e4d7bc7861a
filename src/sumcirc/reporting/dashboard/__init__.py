"""A saved W&B workspace and a report of a sweep, from what its runs logged; imports no torch."""
