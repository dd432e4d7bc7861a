"""The command line: from the words of `sumcirc VERB ...` to checked configurations and jobs."""
