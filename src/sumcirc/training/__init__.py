"""Lightning: the module, the trainer, resumable checkpoints, and the built-in model's making."""
