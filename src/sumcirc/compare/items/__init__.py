"""Inputs on which two models are compared: documents, prompts and facts as tokens."""
