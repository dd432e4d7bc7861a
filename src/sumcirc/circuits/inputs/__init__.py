"""Clean and corrupted inputs, aligned token by token."""
