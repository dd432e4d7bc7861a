"""The circuit card: tests of a circuit on pairs that did not choose its edges."""
