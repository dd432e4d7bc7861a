"""The run directory and Weights & Biases."""
