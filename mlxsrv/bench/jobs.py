"""The child's side of `worker`: jobs come in as lines, and answers go out as lines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def serve(make: Callable[[], Callable[..., Any]]) -> None:
    """Makes what does the jobs, and does them until there are no more."""
    # Libraries print what they like; only answers may reach the parent.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    do = make()
    for line in sys.stdin:
        print(json.dumps(do(**json.loads(line))), file=answers, flush=True)
