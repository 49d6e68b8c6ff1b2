"""A local, OpenAI-compatible inference server for Apple silicon, and for CI on Linux."""

__version__ = "0.1.0"
