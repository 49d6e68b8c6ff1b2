"""The only packages that import mlx or torch, and the thread that runs them."""
