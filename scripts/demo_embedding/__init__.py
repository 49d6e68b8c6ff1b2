"""Trainer and evaluator of the tiny demo embedding model in ``models/demo-embedding``."""
