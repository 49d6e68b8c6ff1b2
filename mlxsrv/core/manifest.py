"""A recommended model: what it is for, what it needs, and where it is published."""

from __future__ import annotations

from dataclasses import dataclass

from mlxsrv.core.kinds import SERVED_KINDS, Kind

MAIN = "main"
"""The branch that a repository is read at where no commit is pinned."""

SCALE_BITS = 0.5
"""What a quantised weight costs beyond its own bits: MLX keeps a scale and a bias of 16 bits
each for every group of 64."""

PLAIN_BITS = 16
"""Of a weight that is not quantised."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One recommended model. Memory in bytes of weights alone, context in tokens.

    `id` is what MLX reads, with `bits` a weight if it is quantised; `source` is the original
    that torch reads, where that is another repository. `gated`: the publisher of the original
    wants its terms accepted first. Of `parameters`, `parameters_16bit` are not quantised even
    in a quantised model (vision towers, image decoders). `name` is the short name it answers to.
    """

    name: str
    id: str
    revision: str
    kind: Kind
    parameters: int
    memory_4bit: int
    memory_8bit: int
    licence: str
    gated: bool
    purpose: str
    backends: tuple[str, ...]
    source: str | None = None
    source_revision: str = MAIN
    bits: int | None = None
    parameters_16bit: int = 0
    context_length: int | None = None
    dimensions: int | None = None

    @property
    def served(self) -> bool:
        """Whether this version does what the model is for. Vision models do not see images yet."""
        return self.kind in SERVED_KINDS and self.kind is not Kind.VISION

    def repository(self, backend: str) -> tuple[str, str]:
        """Hub id and revision of what `backend` reads."""
        if backend == "torch" and self.source is not None:
            return self.source, self.source_revision
        return self.id, self.revision

    def hub_id(self, backend: str) -> str:
        """The same as `org/name` or `org/name@revision`."""
        repo, revision = self.repository(backend)
        return repo if revision == MAIN else f"{repo}@{revision}"

    def gated_on(self, backend: str) -> bool:
        """Whether what `backend` reads wants terms accepted: conversions to MLX do not."""
        return self.gated and self.repository(backend)[0] == (self.source or self.id)

    def memory(self, backend: str) -> int:
        """Bytes of the weights that `backend` reads."""
        quantised = None if backend == "torch" else self.bits
        published = {4: self.memory_4bit, 8: self.memory_8bit}
        return published[quantised] if quantised else self.parameters * PLAIN_BITS // 8


def weight_bytes(parameters: int, bits: int, *, plain: int = 0) -> int:
    """Bytes of a model of which all but `plain` parameters are quantised to `bits`."""
    return round((parameters - plain) * (bits + SCALE_BITS) / 8) + plain * PLAIN_BITS // 8
