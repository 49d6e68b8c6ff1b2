"""The parts of a diffusers folder, loaded one at a time."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.jsonfile import read_object
from mlxsrv.backends.pipeline import INDEX, read_pipeline
from mlxsrv.backends.torch.encoder import loading_errors
from mlxsrv.backends.torch.image_qwen import QwenProcessor
from mlxsrv.backends.torch.image_slices import make_pausable
from mlxsrv.backends.torch.precision import device_name, dtype_for
from mlxsrv.core.errors import LoadError

SCHEDULER = "FlowMatchEulerDiscreteScheduler"

_LIBRARIES = {"diffusers", "transformers"}
_QWEN_PROCESSORS = {"Qwen2VLProcessor", "Qwen2_5_VLProcessor"}
_PLAIN = {"model", "diffusion_pytorch_model"}
_NUMBERED = re.compile(r"-\d+-of-\d+$")


class Folder:
    """A checkpoint's parts, in the numbers and on the device that suit it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.path = checkpoint.folder
        self.index = read_object(self.path / INDEX)
        self.device = torch.device(device_name())
        self.dtype = _dtype(self.device, checkpoint)
        self._classes = dict(self._parts())

    def _parts(self) -> Iterator[tuple[str, tuple[str, str] | None]]:
        for name, entry in self.index.items():
            if isinstance(entry, list) and len(entry) == 2 and name != "scheduler":
                library, kind = entry
                yield name, None if kind is None else (library, kind)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all parts but the scheduler."""
        return tuple(self._classes)

    @property
    def encoders(self) -> tuple[str, ...]:
        """Of the parts that read prompts."""
        return tuple(name for name in self._classes if name.startswith("text_encoder"))

    @property
    def settings(self) -> dict[str, Any]:
        """What the pipeline is told beside its parts."""
        return {
            name: value
            for name, value in self.index.items()
            if not isinstance(value, list) and not name.startswith("_")
        }

    def import_classes(self) -> None:
        """Imports what the parts are made of. Raises LoadError."""
        for found in self._classes.values():
            if found is not None:
                _class(*found)

    def config(self, name: str) -> dict[str, Any]:
        return read_object(self.path / name / "config.json")

    def encoder_bytes(self) -> int:
        """What all text encoders take once they are loaded."""
        parts = read_pipeline(self.path).parts
        tensors = [tensor for part in parts if part.is_encoder for tensor in part.tensors]
        return sum(tensor.items for tensor in tensors) * self.dtype.itemsize

    def scheduler(self) -> dict[str, Any]:
        """Raises LoadError where pictures are made in another way than here."""
        config = read_object(self.path / "scheduler" / "scheduler_config.json")
        name = config.get("_class_name", SCHEDULER)
        if name != SCHEDULER or config.get("invert_sigmas") or config.get("stochastic_sampling"):
            raise LoadError(f"the scheduler of {self.path.name}, {name}, is not served")
        return config

    def load(self, name: str) -> Any:
        """A model, tokenizer or processor; None where the pipeline leaves it out.

        Raises LoadError.
        """
        found = self._classes[name]
        if found is None:
            return None
        part = self.path / name
        with loading_errors(self.path):
            kind = _class(*found)
            if not issubclass(kind, nn.Module):
                return kind.from_pretrained(part, local_files_only=True)
            _require_plain(part)
            model = self._loaded(kind, part).to(self.device).eval().requires_grad_(False)
        make_pausable(model)
        return model

    def _loaded(self, kind: Any, part: Path) -> Any:
        # diffusers would want accelerate for what it does by default.
        options = {} if issubclass(kind, PreTrainedModel) else {"low_cpu_mem_usage": False}
        model, report = kind.from_pretrained(
            part,
            dtype=self.dtype,
            variant=_variant(part),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])
            raise LoadError(f"{part} lacks {len(missing)} of its tensors, such as {missing[0]}")
        return model


def _dtype(device: torch.device, checkpoint: Checkpoint) -> torch.dtype:
    dtype = dtype_for(device.type, checkpoint.weight_bytes)
    if isinstance(dtype, torch.dtype):
        return dtype
    # What was trained in bfloat16 may overflow in float16.
    return torch.float32 if checkpoint.dtype == "float32" else torch.bfloat16


def _class(library: str, name: str) -> Any:
    if library not in _LIBRARIES:
        raise LoadError(f"a part of it is a {library}.{name}, which is not served")
    if name in _QWEN_PROCESSORS:
        return QwenProcessor
    found = getattr(importlib.import_module(library), name, None)
    if not isinstance(found, type):
        raise LoadError(f"{library} has no {name}")
    return found


def _require_plain(part: Path) -> None:
    packed = read_object(part / "config.json").get("quantization_config")
    if packed is not None:
        method = packed.get("quant_method") if isinstance(packed, dict) else None
        raise LoadError(
            f"{part} is quantised ({method or 'in a way of its own'}), which is not served: use "
            "the model's plain checkpoint, in bfloat16 or float16"
        )


def _variant(part: Path) -> str | None:
    """The middle of names such as `model.fp16.safetensors`, where there are no others."""
    stems = {_NUMBERED.sub("", file.stem) for file in part.glob("*.safetensors")}
    if not stems or stems & _PLAIN:
        return None
    return min(stems).partition(".")[2] or None
