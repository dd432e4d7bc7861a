"""From text to tensors: documents, encoding and batches."""
