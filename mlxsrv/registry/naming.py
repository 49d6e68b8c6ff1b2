"""Which model a request means, and what a model is called."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlxsrv.config.sources import folder_name, is_hub_id
from mlxsrv.core.errors import Conflict, KindNotLoaded, ModelNotFound
from mlxsrv.core.kinds import TEXT_KINDS, Kind
from mlxsrv.registry.entry import Entry


@dataclass(slots=True)
class Catalogue:
    """Entries by served name, in the order they came."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def find(self, name: str) -> Entry | None:
        """By name or alias."""
        if name in self.entries:
            return self.entries[name]
        return next((entry for entry in self if name in entry.settings.aliases), None)

    def made_of(self, model: str) -> Entry | None:
        """The entry that was loaded from this path or hub id, whatever it is called."""
        folder = os.path.realpath(os.path.expanduser(model)) if os.sep in model else None
        for entry in self:
            if entry.settings.path == model and entry.base is None:
                return entry
            found = entry.checkpoint
            if found is not None and folder == os.path.realpath(found.folder):
                return entry
        return None

    def named(self, name: str, *, param: str = "model") -> Entry:
        """Raises ModelNotFound."""
        entry = self.find(name)
        if entry is None:
            raise not_found(name, param)
        return entry

    def require_free(self, name: str, *, param: str = "name") -> None:
        """Raises Conflict where a model has that name."""
        other = self.find(name)
        if other is not None:
            raise Conflict(f"{param}: {name} already names the model {other.name}", param=param)

    def add(self, entry: Entry, *, param: str = "name") -> None:
        """Raises Conflict where a name is taken."""
        for name in (entry.name, *entry.settings.aliases):
            self.require_free(name, param=param)
        self.entries[entry.name] = entry

    def remove(self, entry: Entry) -> None:
        """Together with its adapters."""
        for name in (entry.name, *entry.adapters):
            self.entries.pop(name, None)
        if entry.base is not None:
            entry.base.adapters.pop(entry.name, None)

    def choose(self, name: str | None, kinds: Collection[Kind], prefer: Kind | None) -> Entry:
        """The entry that serves a request for `name`.

        A name or an alias wins; then the only model that can serve, whatever it was called
        (adapters don't count). Without a name: the first model of kind `prefer`, else the
        first that can serve. Raises KindNotLoaded and ModelNotFound.
        """
        entry = None if name is None else self.find(name)
        if entry is not None:
            if entry.kind not in kinds:
                raise ModelNotFound(
                    f"The model `{name}` is of type {entry.kind}, which can't do this",
                    param="model",
                )
            return entry
        able = [entry for entry in self if entry.kind in kinds and entry.base is None]
        if not able:
            raise kind_not_loaded(kinds)
        if name is None:
            return min(able, key=lambda entry: entry.kind != prefer)
        if len(able) > 1:
            raise not_found(name)
        return able[0]


def default_name(model: str) -> str:
    """What a model that was named by its folder or hub id is called."""
    if is_hub_id(model):
        return model.partition("@")[0]
    return folder_name(Path(os.path.normpath(model))) or model


def same_family(one: Kind, other: Kind) -> bool:
    return one == other or (one in TEXT_KINDS and other in TEXT_KINDS)


def not_found(name: str, param: str = "model") -> ModelNotFound:
    return ModelNotFound(f"The model `{name}` does not exist", param=param)


def kind_not_loaded(kinds: Collection[Kind]) -> KindNotLoaded:
    words = {Kind.STT: "audio", Kind.TTS: "audio"}
    kind = min(kinds, key=list(Kind).index)
    word = "text" if kind in TEXT_KINDS else words.get(kind, str(kind))
    return KindNotLoaded(f"No {word} model loaded", param="model")
