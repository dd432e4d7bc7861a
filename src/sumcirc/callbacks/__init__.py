"""Lightning callbacks that analyse a model while it trains."""
