"""Incremental parsers of generated text: fed piece by piece, never two code paths."""
