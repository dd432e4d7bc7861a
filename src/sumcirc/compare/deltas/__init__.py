"""What fine-tuning changed, part by part, and what scaling it does."""
