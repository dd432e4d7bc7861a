"""The jobs of the command line, one module for each verb, with the functions `check` and `run`."""
