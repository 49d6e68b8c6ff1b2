"""Command-line flags made from the settings, so that none can be forgotten."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mlxsrv.config import sources
from mlxsrv.config.settings import ModelSettings, Settings, split_address
from mlxsrv.core.errors import ConfigError

MODEL_FLAGS = {
    "type": "--kind",
    "context_length": "--context-length",
    "default_temperature": "--default-temperature",
    "dimensions": "--dimensions",
    "aliases": "--aliases",
    "adapter": "--adapter",
    "draft": "--draft",
    "chat_template": "--chat-template",
    "voice_prompt": "--voice-prompt",
    "default_size": "--size",
    "steps": "--steps",
    "guidance": "--guidance",
    "quantize": "--quantize",
    "preview": "--preview",
    "ttl": "--model-ttl",
    "pin": "--pin",
    "preload": "--preload",
}
"""Key of `[api.models.NAME]` → its flag, for the one MODEL of the command line."""

ALSO = {"image_metadata": "--metadata"}
"""Key → a shorter flag beside its own."""

MAX_PORT = 65535


def add_settings_flags(parser: argparse.ArgumentParser) -> None:
    """`--config`, `--host`, `--port`, and a flag for every key of every section."""
    add_config_flag(parser)
    groups: dict[str, argparse._ArgumentGroup] = {}
    for section, key in sources.keys():  # noqa: SIM118 (a function, not a mapping)
        if section not in groups:
            groups[section] = parser.add_argument_group(f"[{section}]")
        names = [sources.flag_of(key), *([ALSO[key]] if key in ALSO else [])]
        _add_flag(groups[section], names, f"set_{key}", _field(section, key))
    groups["api"].add_argument("--host", help="where to listen; beats the address's host")
    groups["api"].add_argument(
        "--port", type=_port, help="port to listen on, 0 for a free one; beats the address's port"
    )


def add_config_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings in TOML (or MLXSRV_CONFIG)"
    )


def config_file(args: argparse.Namespace) -> Path | None:
    """The settings file that the flag or the environment names."""
    variable = os.environ.get("MLXSRV_CONFIG")
    found: Path | None = args.config
    return found if found is not None or not variable else Path(variable)


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that go with one MODEL."""
    group = parser.add_argument_group("for a single MODEL")
    group.add_argument("--name", help="name to serve it by (default: from its folder or id)")
    for key, flag in MODEL_FLAGS.items():
        _add_flag(group, [flag], f"model_{key}", ModelSettings.model_fields[key])


def _add_flag(group: Any, names: Sequence[str], dest: str, field: FieldInfo) -> None:
    text = (field.description or "").replace("%", "%%")
    default = field.get_default(call_default_factory=True)
    if default not in (None, (), {}):
        shown = str(default).lower() if isinstance(default, bool) else default
        text += f" (default: {shown})"
    if field.annotation is bool:
        action: Any = argparse.BooleanOptionalAction
        group.add_argument(*names, dest=dest, action=action, default=None, help=text)
    else:
        # Values stay text: the settings convert them, and name the flag where they can't.
        metavar = names[0].removeprefix("--").upper().replace("-", "_")
        group.add_argument(*names, dest=dest, default=None, metavar=metavar, help=text)


def _field(section: str, key: str) -> FieldInfo:
    model = Settings.model_fields[section].annotation
    assert isinstance(model, type) and issubclass(model, BaseModel)
    return model.model_fields[key]


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to {MAX_PORT})")
    return int(text)


def is_recommended(name: str) -> bool:
    """Whether a model can be served by that short name alone, shipped ones included."""
    from mlxsrv.backends import builtin, manifests

    return name in builtin.builtin_models() or manifests.find(name) is not None


def load_settings(
    args: argparse.Namespace, models: Mapping[str, Mapping[str, object]] | None = None
) -> Settings:
    """The settings that the command line, the environment and the file make. Raises ConfigError."""
    file = config_file(args)
    flags = given(args, "set_")
    if args.host is None and args.port is None:
        return sources.load(file, flags=flags, models=models, recommended=is_recommended)
    # The half of the address that no flag gives comes from the settings; whether that address
    # may be served is only asked of the whole.
    found = sources.load(
        file,
        flags={**flags, "allow_unauthenticated": True},
        models=models,
        recommended=is_recommended,
    )
    flags["address"] = _address(found.api.address, args.host, args.port)
    try:
        return sources.load(file, flags=flags, models=models, recommended=is_recommended)
    except ConfigError as error:
        named = "--host" if args.host is not None else "--port"
        raise ConfigError(error.message.replace("--address: ", f"{named}: ")) from None


def _address(found: str, host: str | None, port: int | None) -> str:
    old_host, old_port = split_address(found)
    host = old_host if host is None else host
    return f"{f'[{host}]' if ':' in host else host}:{old_port if port is None else port}"


def given(args: argparse.Namespace, prefix: str) -> dict[str, object]:
    """The flags of one family that the user gave, by key."""
    return {
        name.removeprefix(prefix): value
        for name, value in vars(args).items()
        if name.startswith(prefix) and value is not None
    }


def check_model_flags(entry: Mapping[str, object]) -> None:
    """Raises ConfigError that names the flag of each bad value of a MODEL's entry."""
    try:
        ModelSettings.model_validate(entry)
    except ValidationError as error:
        lines = [
            f"{MODEL_FLAGS.get(str(e['loc'][0]), 'MODEL')}: {e['msg']}" for e in error.errors()
        ]
        raise ConfigError("\n".join(lines)) from None
