"""Makes a self-contained HTML page about a run or a sweep, with one module for each section."""
