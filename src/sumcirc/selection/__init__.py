"""Which layers or modules get an adapter: one file per selector (docs/selecting.md)."""
