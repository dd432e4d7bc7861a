"""From saved records to pictures; imports no torch."""
