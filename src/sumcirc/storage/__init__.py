"""Files: written atomically, read with checks, cached, or fetched from the hub."""
