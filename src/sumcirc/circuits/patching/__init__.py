"""Running a model as a circuit, with the other edges patched, and measuring its faithfulness."""
