"""Activations of a live model: seen and replaced at hook points, and the weights around them."""
