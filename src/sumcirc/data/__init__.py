"""Documents, encoding, batches: from text to tensors."""
