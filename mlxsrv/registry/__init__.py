"""Names → models: what is configured, what is in memory, and who is using it."""

from mlxsrv.registry.entry import AdapterInfo, LoadProgress, LoadRequest, MemoryState, ModelInfo
from mlxsrv.registry.registry import Registry

__all__ = [
    "AdapterInfo",
    "LoadProgress",
    "LoadRequest",
    "MemoryState",
    "ModelInfo",
    "Registry",
]
