"""Models run by MLX. Imported, loaded and used on the device thread only."""
