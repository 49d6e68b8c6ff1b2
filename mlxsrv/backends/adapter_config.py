"""What an adapter's `adapter_config.json` says, as PEFT and mlx-lm write it.

PEFT: https://huggingface.co/docs/peft/package_reference/lora. mlx-lm: its `lora_parameters`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxsrv.backends.adapter import PARAM
from mlxsrv.core.errors import InvalidRequest

MAX_RANK = 512
MAX_JSON_BYTES = 16_000_000
"""A hundred times what the largest adapters have."""
MAX_PATH = 200

CONFIG = "adapter_config.json"
PEFT_FILE = "adapter_model.safetensors"
MLX_LM_FILE = "adapters.safetensors"

_PEFT_NAME = re.compile(
    r"(?:base_model\.model\.)?(?P<path>.+)\.lora_(?P<part>[AB])(?:\.[^.]+)?\.weight"
)
_MLX_LM_NAME = re.compile(r"(?P<path>.+)\.lora_(?P<part>[ab])")

_OTHER_THAN_LORA = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
)
"""Settings of PEFT under which the formula is another."""

_CHANGED_BASE = ("pissa", "olora", "corda", "lora_ga")
"""Initialisations that train beside changed base weights, which a server does not have."""


RankAndScale = Callable[[str], tuple[int, float]]
"""Of the layer with this path."""


@dataclass(frozen=True, slots=True)
class Published:
    """One format: its file, its tensors' names, and a layer's rank and scale by its path."""

    file: str
    name: re.Pattern[str]
    transposed: bool
    rank_and_scale: RankAndScale


def read_config(folder: Path) -> Published:
    """How the adapter in `folder` is stored. Raises InvalidRequest where it is not LoRA."""
    return _published(folder, _config(folder))


def _config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    if not file.is_file():
        raise refused(f"{folder.name} is not a LoRA adapter: it has no {CONFIG}")
    if file.stat().st_size > MAX_JSON_BYTES:
        raise refused(f"{CONFIG} is too large")
    try:
        config = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise refused(f"{CONFIG} is not valid JSON") from error
    if not isinstance(config, dict):
        raise refused(f"{CONFIG} should hold a JSON object")
    return config


def _published(folder: Path, config: Mapping[str, Any]) -> Published:
    if "peft_type" in config:
        return _peft(config)
    if "lora_parameters" in config or "fine_tune_type" in config:
        return _mlx_lm(config)
    raise refused(
        f"{folder.name} is not a LoRA adapter: its {CONFIG} has neither PEFT's peft_type nor "
        "mlx-lm's lora_parameters"
    )


def _peft(config: Mapping[str, Any]) -> Published:
    return Published(PEFT_FILE, _PEFT_NAME, False, peft_rank_and_scale(config))


def peft_rank_and_scale(config: Mapping[str, Any]) -> RankAndScale:
    """What PEFT's `LoraConfig` says. Raises InvalidRequest where it is more than LoRA."""
    kind = config["peft_type"]
    if kind != "LORA":
        raise refused(f"the adapter is of PEFT's type {shown(str(kind))}; only LORA is served")
    for key in _OTHER_THAN_LORA:
        if config.get(key):
            raise refused(f"the adapter was trained with {key}, which is not served")
    initial = config.get("init_lora_weights")
    if isinstance(initial, str) and initial.lower().startswith(_CHANGED_BASE):
        raise refused(
            f"the adapter was trained beside base weights that {shown(initial)} changed: save it "
            "converted to plain LoRA (path_initial_model_for_weight_conversion)"
        )
    ranks = _by_pattern(config, "rank_pattern", config.get("r", 8))
    alphas = _by_pattern(config, "alpha_pattern", config.get("lora_alpha", 8))
    root = math.sqrt if config.get("use_rslora") else float

    def rank_and_scale(path: str) -> tuple[int, float]:
        rank = _rank(ranks(path), "r")
        return rank, _number(alphas(path), "lora_alpha") / root(rank)

    return rank_and_scale


def _mlx_lm(config: Mapping[str, Any]) -> Published:
    kind = config.get("fine_tune_type", "lora")
    if kind != "lora":
        raise refused(f"the adapter is of mlx-lm's type {shown(str(kind))}; only lora is served")
    settings = config.get("lora_parameters")
    if not isinstance(settings, dict):
        raise refused(f"lora_parameters in {CONFIG} should be an object")
    rank = _rank(settings.get("rank"), "lora_parameters.rank")
    scale = _number(settings.get("scale"), "lora_parameters.scale")
    return Published(MLX_LM_FILE, _MLX_LM_NAME, True, lambda path: (rank, scale))


def _by_pattern(config: Mapping[str, Any], key: str, default: Any) -> Callable[[str], Any]:
    """What holds for a module: the first pattern that its path ends with, or the default."""
    given = config.get(key) or {}
    if not isinstance(given, dict):
        raise refused(f"{key} in {CONFIG} should be an object")
    patterns = [(_pattern(pattern, key), value) for pattern, value in given.items()]

    def value(path: str) -> Any:
        return next((value for pattern, value in patterns if pattern.match(path)), default)

    return value


def _pattern(pattern: str, key: str) -> re.Pattern[str]:
    # A hostile expression could match for ever, so repetition is allowed only where it can't
    # multiply.
    repeated = re.findall(r"[*+{]", pattern)
    if len(pattern) > MAX_PATH or len(repeated) > 2 or re.search(r"\)[*+?{]", pattern):
        raise refused(f"{key} in {CONFIG} has an expression that is too complex")
    try:
        return re.compile(rf"(?:.*\.)?(?:{pattern})$")
    except re.error as error:
        raise refused(f"{key} in {CONFIG} has an invalid expression: {shown(pattern)}") from error


def _rank(value: Any, key: str) -> int:
    if type(value) is not int or not 0 < value <= MAX_RANK:
        raise refused(f"{key} in {CONFIG} should be a rank from 1 to {MAX_RANK}")
    return value


def _number(value: Any, key: str) -> float:
    if type(value) not in {int, float} or not abs(value) < 1e6:
        raise refused(f"{key} in {CONFIG} should be a number")
    return float(value)


def shown(name: str) -> str:
    short = name if len(name) <= MAX_PATH else f"{name[:MAX_PATH]}…"
    return short if short.isprintable() else repr(short)


def refused(why: str) -> InvalidRequest:
    return InvalidRequest(why, param=PARAM)
