"""Fine-tuning's changes to the weights, part by part, and the effects of scaling them."""
