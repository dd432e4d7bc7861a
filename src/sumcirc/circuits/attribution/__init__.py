"""Edge attribution: a score for every edge, by EAP-IG and its relatives."""
