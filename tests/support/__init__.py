"""What several tests need: servers and small models made on the spot."""
