"""Edge attribution: a score for every edge, by EAP-IG and related methods."""
