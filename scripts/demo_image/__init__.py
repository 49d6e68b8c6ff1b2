"""Generator, trainer and judge of the tiny demo Flux model in ``models/demo-image``."""
