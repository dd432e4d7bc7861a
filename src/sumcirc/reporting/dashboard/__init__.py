"""Makes a W&B workspace and a W&B report of what a sweep's runs logged; imports no torch."""
