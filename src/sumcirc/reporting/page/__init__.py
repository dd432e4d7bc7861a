"""One self-contained HTML page of a run or a sweep: a file for each section, from records alone."""
