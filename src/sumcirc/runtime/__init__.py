"""Terminal output, progress, messages, quoting, and child processes."""
