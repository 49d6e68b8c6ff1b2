"""Sound and pictures in and out of files. Blocking work: callers run it on a thread pool.

FFmpeg (PyAV) reads and writes every container and codec of sound, soxr changes rates, Pillow does
pictures; all are imported at first use. Sound is mono float32 between -1 and 1 here, a picture
[height, width, 3] of bytes.
"""
