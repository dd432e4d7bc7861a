"""Lightning: the module, the trainer, resumable checkpoints, and how the built-in model was made."""
