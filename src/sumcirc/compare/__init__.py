"""Two models on the same texts: what differs inside, and what moves across with a part."""
