"""From saved records to views: one function for each result, used by figures, page and tables."""
