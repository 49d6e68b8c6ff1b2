"""Whisper's algorithm around the model, after OpenAI's reference implementation. Numpy only."""
