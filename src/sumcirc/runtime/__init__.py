"""The process around the work: terminal output, progress, messages, quoting, child processes."""
