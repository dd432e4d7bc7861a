"""The command line: converts `sumcirc VERB ...` to checked configurations, and runs jobs."""
