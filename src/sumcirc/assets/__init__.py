"""The built-in model and its tokenizer."""
