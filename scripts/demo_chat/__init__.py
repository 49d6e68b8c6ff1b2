"""Generator, trainer and evaluator of the tiny demo chat model in ``models/demo-chat``."""
