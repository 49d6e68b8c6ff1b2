"""What the demo embedding and rerank models share: their world, their data, their shape."""
