"""Models: architectures, loading, hooks and activation caches, adapters, and saving."""
