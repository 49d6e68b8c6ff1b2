"""Wire types: what requests may hold and what answers hold. They go no further than `api`."""
