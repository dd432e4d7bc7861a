"""Running a model as a circuit: patched edges, and how faithful the circuit is."""
