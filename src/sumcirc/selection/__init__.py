"""Selection of layers or modules that get an adapter: one file per selector (docs/selecting.md)."""
