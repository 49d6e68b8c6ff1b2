"""What all tests share."""

from __future__ import annotations

import signal

from hypothesis import settings

# The machine is shared and slow at times: how long an example takes says nothing.
settings.register_profile("mlxsrv", deadline=None, max_examples=60)
settings.load_profile("mlxsrv")

# A shell ignores SIGINT for what it runs in the background, and children inherit that; tests
# press Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
