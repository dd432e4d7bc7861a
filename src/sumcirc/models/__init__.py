"""Models: loading, adaptation, the LightningModule."""
