"""Files: written whole or not at all, read and checked, cached, or fetched from the hub."""
