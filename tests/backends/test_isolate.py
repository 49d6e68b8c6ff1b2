"""What importing the backends leaves as it was."""

from __future__ import annotations

import subprocess
import sys

SHOW = """
import resource
before = resource.getrlimit(resource.RLIMIT_NOFILE)
import mlxsrv.backends.mlx.load
print(before == resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_mlx_leaves_the_limit_on_open_files_alone() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
