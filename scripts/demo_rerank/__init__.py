"""Trainer and evaluator of the tiny demo rerank model in ``models/demo-rerank``."""
