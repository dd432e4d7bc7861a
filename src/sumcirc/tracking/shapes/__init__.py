"""The shapes of the files in a run directory, as far as readers rely on them.

`docs/reference/files.md` describes every key.
"""
