"""Which edges of the model carry the summary: attribution, patching, faithfulness, stability."""
