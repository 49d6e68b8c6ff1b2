"""Sound in and out of files. Blocking work: callers run it on a thread pool.

FFmpeg (PyAV) reads and writes every container and codec, soxr changes rates; both are imported
at first use. What goes through here is mono float32 between -1 and 1.
"""
