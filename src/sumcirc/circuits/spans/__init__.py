"""Circuits by span: edges divided by the spans of the tokens between which they act."""
