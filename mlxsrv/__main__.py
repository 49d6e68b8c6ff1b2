"""`python -m mlxsrv` is `mlxsrv`."""

from __future__ import annotations

from mlxsrv.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
