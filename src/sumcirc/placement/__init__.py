"""The landscape of all choices of layers: how good each is, and where a selector's choice lies."""
