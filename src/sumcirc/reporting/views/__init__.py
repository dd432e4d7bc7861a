"""Functions that turn saved records into views and tables, one function for each result."""
