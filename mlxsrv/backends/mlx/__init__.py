"""Models run by MLX. Imported, loaded and used on the device thread only."""

from mlxsrv.backends.isolate import open_files_kept

# As it is imported mlx-lm lowers the limit on open files, the hard one too, which nobody but
# root can raise again; a server needs its sockets.
with open_files_kept():
    import mlx_lm.utils  # noqa: F401
