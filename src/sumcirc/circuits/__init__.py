"""Circuits: the edges of a model that produce the summary; attribution, patching, faithfulness."""
