"""The jobs of the command line, one file per verb; each has `check` and `run`."""
