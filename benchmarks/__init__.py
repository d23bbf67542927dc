"""How fast the rendered service is."""
