"""Path attribution: which part of fine-tuning's change caused the gain, along the change itself."""
