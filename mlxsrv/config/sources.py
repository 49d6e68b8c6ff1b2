"""Where settings come from: flags beat `MLXSRV_*` variables beat the TOML file.

Every error says where the value stands: `mlxsrv.toml:7: api.max_queue: …`,
`MLXSRV_MAX_QUEUE: …` or `--max-queue: …`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mlxsrv.config.settings import Settings, is_loopback, split_address
from mlxsrv.core.errors import ConfigError

ENV_PREFIX = "MLXSRV_"
BUILT_IN = frozenset({"demo", "espeak"})
SECTIONS = ("api", "engine", "memory", "hub")
FILE_ONLY = frozenset({"models"})

_SNAPSHOT = re.compile(r"/models--(.+?)--([^/]+)/snapshots/[^/]+$")
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?$")

Path_ = tuple[str, ...]


def keys() -> Iterator[tuple[str, str]]:
    """Each (section, key) that is a flag and a variable as well."""
    for section in SECTIONS:
        model = Settings.model_fields[section].annotation
        assert isinstance(model, type) and issubclass(model, BaseModel)
        for key in model.model_fields:
            if key not in FILE_ONLY:
                yield section, key


def flag_of(key: str) -> str:
    return "--" + key.replace("_", "-")


def load(
    file: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    models: Mapping[str, Mapping[str, object]] | None = None,
    recommended: Callable[[str], bool] = lambda name: False,
) -> Settings:
    """Reads and checks all settings.

    `flags` maps keys of `keys()` to values; `models` holds the entries that the command line
    names, which take the place of the file's; `recommended` knows the names that need no path.
    Raises ConfigError that lists every problem.
    """
    loader = _Loader(file)
    loader.overlay_environment(os.environ if environ is None else environ)
    loader.overlay_flags(flags or {})
    if models:
        loader.overlay_models(models)
    return loader.settings(recommended)


class _Loader:
    """Collects values with a note of where each came from."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.text = ""
        self.values: dict[str, Any] = {}
        self.origins: dict[Path_, str] = {}
        if file is not None:
            self._read(file)

    def _read(self, file: Path) -> None:
        try:
            self.text = file.read_text(encoding="utf-8")
            self.values = tomllib.loads(self.text)
        except OSError as error:
            raise ConfigError(f"{file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: not valid TOML: {error}") from error

    def overlay_environment(self, environ: Mapping[str, str]) -> None:
        known = {ENV_PREFIX + key.upper(): (section, key) for section, key in keys()}
        for name, value in environ.items():
            if name in known:
                self._set(known[name], value, name)
            elif name.startswith(ENV_PREFIX) and name not in {"MLXSRV_CONFIG", "MLXSRV_BLAS"}:
                raise ConfigError(f"{name}: no such setting")

    def overlay_flags(self, flags: Mapping[str, object]) -> None:
        sections = {key: section for section, key in keys()}
        for key, value in flags.items():
            self._set((sections[key], key), value, flag_of(key))

    def overlay_models(self, models: Mapping[str, Mapping[str, object]]) -> None:
        api = self.values.setdefault("api", {})
        if isinstance(api, dict):
            api["models"] = {name: dict(entry) for name, entry in models.items()}
            self.origins["api", "models"] = "command line"

    def _set(self, path: Path_, value: object, origin: str) -> None:
        table = self.values
        for part in path[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                return  # the file has a plain value here: validation reports it
        table[path[-1]] = value
        self.origins[path] = origin

    def settings(self, recommended: Callable[[str], bool]) -> Settings:
        try:
            settings = Settings.model_validate(self.values)
        except ValidationError as error:
            lines = [self._line(_path(e["loc"]), _reason(e)) for e in error.errors()]
            raise ConfigError("\n".join(lines)) from None
        problems = [self._line(path, reason) for path, reason in _impossible(settings, recommended)]
        if problems:
            raise ConfigError("\n".join(problems))
        return settings

    def _line(self, path: Path_, reason: str) -> str:
        for length in range(len(path), 0, -1):
            origin = self.origins.get(path[:length])
            if origin == "command line":
                return f"command line: {'.'.join(path[2:])}: {reason}"
            if origin is not None:
                return f"{origin}: {reason}"
        if self.file is None:
            return f"{'.'.join(path)}: {reason}"
        return f"{self.file}:{line_of(self.text, path)}: {'.'.join(path)}: {reason}"


def _path(loc: tuple[int | str, ...]) -> Path_:
    return tuple(str(part) for part in loc if part != "[key]")


def _reason(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "no such setting"
    if error["type"] == "missing":
        return "is required"
    return str(error["msg"].removeprefix("Value error, "))


def line_of(text: str, path: Path_) -> int:
    """The line (from 1) on which the statement that sets `path`, or its nearest parent, begins.

    `tomllib` keeps no positions. But a statement's first line follows the longest prefix of
    the file that parses and does not hold the key yet.
    """
    lines = text.splitlines(keepends=True)
    for length in range(len(path), 0, -1):
        before = 0
        for end in range(1, len(lines) + 1):
            try:
                table = tomllib.loads("".join(lines[:end]))
            except tomllib.TOMLDecodeError:
                continue
            if _holds(table, path[:length]):
                return before + 1
            before = end
    return 1


def _holds(table: object, path: Path_) -> bool:
    for part in path:
        if not isinstance(table, dict) or part not in table:
            return False
        table = table[part]
    return True


def is_hub_id(path: str) -> bool:
    """Whether `path` has the form `organisation/model`, with or without `@revision`."""
    return bool(_HUB_ID.match(path)) and ".." not in path


def folder_name(path: Path) -> str:
    """What a folder's model is called: its last part. A snapshot in the hub's cache is called
    by the id it was downloaded for."""
    cached = _SNAPSHOT.search(path.as_posix())
    return f"{cached[1]}/{cached[2]}" if cached else path.name


def _impossible(
    settings: Settings, recommended: Callable[[str], bool]
) -> Iterator[tuple[Path_, str]]:
    """What is well-formed but can't be: missing paths, and a server open to everyone."""
    api = settings.api
    if not api.enabled:
        yield ("api", "enabled"), "is false, so there is nothing to serve"
    if api.require_auth and api.api_key is None:
        yield ("api", "require_auth"), "is true, but no api_key is set"
    host, _ = split_address(api.address)
    if not is_loopback(host) and api.api_key is None and not api.allow_unauthenticated:
        yield (
            ("api", "address"),
            f"{host} can be reached from other machines: set api_key (--api-key), "
            "or allow_unauthenticated to serve everyone",
        )
    if api.voices_dir is not None and not api.voices_dir.is_dir():
        yield ("api", "voices_dir"), f"no such folder: {api.voices_dir}"
    for folder in settings.hub.allowed_folders:
        if not folder.is_dir():
            yield ("hub", "allowed_folders"), f"no such folder: {folder}"
    yield from _impossible_models(settings, recommended)


def _impossible_models(
    settings: Settings, recommended: Callable[[str], bool]
) -> Iterator[tuple[Path_, str]]:
    seen: dict[str, str] = {}
    for name, model in settings.api.models.items():
        where = ("api", "models", name)
        for field in ("path", "adapter", "draft"):
            value = getattr(model, field)
            is_other_model = field == "draft" and value in settings.api.models
            if value is None or value in BUILT_IN or is_other_model:
                continue
            if field == "path" and recommended(value):
                continue
            if not Path(value).expanduser().exists() and not is_hub_id(value):
                yield (*where, field), f"no such file or folder, and not a hub id: {value}"
        if model.voice_prompt is not None and not model.voice_prompt.is_file():
            yield (*where, "voice_prompt"), f"no such file: {model.voice_prompt}"
        if model.preview is not None and not model.preview.exists():
            yield (*where, "preview"), f"no such file or folder: {model.preview}"
        template = model.chat_template
        if template is not None and "{" not in template and not Path(template).is_file():
            yield (*where, "chat_template"), f"neither a Jinja file nor a template: {template}"
        for called in (name, *model.aliases):
            if called in seen:
                yield (*where, "aliases"), f"{called} already names model {seen[called]}"
            seen[called] = name
