"""sumcirc: when a language model learns to summarize, which part of it learns?"""

__version__ = "0.1.0"
