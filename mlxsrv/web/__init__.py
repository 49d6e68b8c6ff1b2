"""What a browser sees at `/`."""
