"""One self-contained HTML page about a run or a sweep, a module per section, from records only."""
