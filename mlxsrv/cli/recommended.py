"""The recommended models, and what this machine makes of each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from mlxsrv.backends import capacity, hubcache, manifests
from mlxsrv.backends.select import Backend
from mlxsrv.cli import table
from mlxsrv.core.manifest import Manifest

HEAD = ("NAME", "KIND", "ID", "4-BIT", "8-BIT", "CONTEXT", "LICENCE", "HERE", "FOR")

SHARE = 0.7
"""Of the machine's memory, what weights may take: caches, and other programs, need the rest."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A recommended model on this machine with one backend."""

    manifest: Manifest
    backend: Backend
    downloaded: bool
    fits: bool

    @property
    def runs(self) -> bool:
        return self.backend in self.manifest.backends

    @property
    def here(self) -> str:
        """In a word or two, whether it can be had here; what stands in the way comes first."""
        if not self.manifest.served:
            return "not served yet"
        if not self.runs:
            return f"needs {self.manifest.backends[0]}"
        if self.downloaded:
            return "downloaded"
        return "fits" if self.fits else "too large"


def show(backend: Backend, kind: str | None, *, as_json: bool) -> int:
    """Prints the recommended models (of one kind) and gives the exit code."""
    found = list(choices(backend, kind))
    if as_json:
        print(json.dumps([_document(choice) for choice in found], indent=2))
    else:
        table.show(HEAD, [_row(choice) for choice in found])
    return 0


def choices(backend: Backend, kind: str | None) -> Iterator[Choice]:
    room = capacity.machine_bytes() * SHARE
    for manifest in manifests.manifests():
        if kind in (None, manifest.kind):
            downloaded = hubcache.find(manifest.hub_id(backend)) is not None
            yield Choice(manifest, backend, downloaded, manifest.memory(backend) <= room)


def _row(choice: Choice) -> tuple[str, ...]:
    manifest = choice.manifest
    gated = " (gated)" if manifest.gated_on(choice.backend) else ""
    return (
        manifest.name,
        manifest.kind,
        manifest.repository(choice.backend)[0],
        table.size(manifest.memory_4bit),
        table.size(manifest.memory_8bit),
        str(manifest.context_length or "-"),
        manifest.licence + gated,
        choice.here,
        manifest.purpose,
    )


def _document(choice: Choice) -> dict[str, object]:
    """The manifest, with what is true of this machine added."""
    manifest = choice.manifest
    return {
        **asdict(manifest),
        "hub_id": manifest.hub_id(choice.backend),
        "memory_bytes": manifest.memory(choice.backend),
        "served": manifest.served,
        "runs": choice.runs,
        "downloaded": choice.downloaded,
        "fits": choice.fits,
    }
