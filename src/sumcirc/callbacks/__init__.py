"""Lightning callbacks: what watches a run, one concern a file."""
