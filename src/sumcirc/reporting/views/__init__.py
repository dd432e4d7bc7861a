"""Views of saved records: one function for each result, used by figures, page and tables."""
