"""Models run by PyTorch. Imported, loaded and used on the device thread only."""
