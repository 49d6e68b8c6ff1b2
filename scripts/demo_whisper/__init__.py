"""Generator, trainer and evaluator of the tiny demo Whisper model in ``models/demo-whisper``."""
