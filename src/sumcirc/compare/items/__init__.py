"""What two models are compared on: documents, prompts and facts as tokens."""
