"""Measures OpenAI-compatible servers, ours and others, side by side."""
