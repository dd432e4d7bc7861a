"""Cross-model activation patching: parts of a donor's run moved into a receiver's."""
