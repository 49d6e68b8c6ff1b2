"""What callers are told of models, in OpenAI's shape with further fields."""

from __future__ import annotations

from mlxsrv.api.schemas.management import ImageObject, MemoryObject, ModelDeleted, ModelObject
from mlxsrv.core.image import ImageFacts
from mlxsrv.registry import MemoryState, ModelInfo


def model_object(info: ModelInfo) -> ModelObject:
    found: ModelObject = {
        "id": info.name,
        "object": "model",
        "created": info.created,
        "owned_by": "mlxsrv",
        "type": str(info.kind),
        "state": info.state,
        "parent": info.base,
        "aliases": list(info.aliases),
        "memory_bytes": info.memory_bytes,
        "context_length": info.context_length,
        "backend": info.backend,
        "quantization": info.quantization,
        "description": info.description,
        "requests": info.leases,
        "idle_seconds": info.idle_seconds,
        "ttl": info.ttl,
        "pin": info.pin,
    }
    if info.speech is not None:
        found["sample_rate"] = info.speech.sample_rate
        found["cloning"] = info.speech.clones
    if info.image is not None:
        found["image"] = _image_object(info.image)
    return found


def _image_object(facts: ImageFacts) -> ImageObject:
    return {
        "size": f"{facts.width}x{facts.height}",
        "multiple": facts.multiple,
        "steps": facts.steps,
        "guidance": facts.guidance,
        "negative_prompt": facts.negative_prompt,
        "edits": facts.inputs > 0,
        "inputs": facts.inputs,
        "masks": facts.masks,
    }


def deleted_object(info: ModelInfo) -> ModelDeleted:
    return {
        "id": info.name,
        "object": "model",
        "deleted": True,
        "memory_bytes": info.memory_bytes,
    }


def memory_object(memory: MemoryState) -> MemoryObject:
    return {"budget_bytes": memory.budget_bytes, "held": dict(memory.held)}
