"""Cross-model activation patching: activations of a donor are patched into a receiver."""
