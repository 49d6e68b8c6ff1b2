"""One forward pass over the rows of a batch, which are of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from transformers import DynamicCache, PreTrainedModel

from mlxsrv.backends.torch.cache import RowCache, Window
from mlxsrv.backends.torch.lora import Adapters
from mlxsrv.core.text import Kept, Prefix

Tokens = Sequence[Sequence[int]]
Names = Sequence[str | None]

ATTENTION = frozenset({"full_attention", "sliding_attention"})


class Forward(Protocol):
    """Runs a model on the next tokens of some neighbouring rows."""

    def __call__(
        self, first_row: int, tokens: Tokens, starts: Sequence[int], adapters: Names
    ) -> torch.Tensor:
        """Feeds each row's next tokens, which go to its places from `starts` on.

        `adapters` names the LoRA adapter of each row that has one. Returns logits [rows,
        vocabulary] after the last column; they mean something only when all rows are fed the
        same number of tokens.
        """
        ...

    def move(self, source: int, target: int, length: int) -> None:
        """Puts one row, `length` places of which are in use, in place of another."""
        ...

    def swap(self, one: int, other: int, length: int) -> None: ...

    def keep(self, row: int, tokens: tuple[int, ...]) -> Kept | None:
        """A copy of what the cache holds of a row: the state after `tokens`."""
        ...

    def restore(self, row: int, prefix: Prefix) -> None:
        """Puts a kept state, cut to the prefix, into a row."""
        ...


def forward_for(model: PreTrainedModel, adapters: Adapters) -> Forward:
    """All rows at once where every layer is attention; else one row after the other.

    Recurrent layers (linear attention, convolutions) keep a state that padding would spoil.
    """
    config = model.config.get_text_config()
    layer_types = set(getattr(config, "layer_types", None) or ())
    stateful = getattr(model, "_is_stateful", False) or layer_types - ATTENTION
    return SerialForward(model, adapters) if stateful else RaggedForward(model, adapters)


class RaggedForward:
    """All rows in one pass, padded on the right.

    What padding writes lies beyond a row's end, and is overwritten before it is ever
    attended to.
    """

    def __init__(self, model: PreTrainedModel, adapters: Adapters) -> None:
        self._model = model
        self._adapters = adapters
        self._device = model.device
        config = model.config.get_text_config()
        self._layer_types: list[str] = list(getattr(config, "layer_types", None) or [])
        self._sliding: int | None = getattr(config, "sliding_window", None)
        self._last_position: int = getattr(config, "max_position_embeddings", 1 << 30) - 1
        self._adds_mask = config._attn_implementation == "eager"
        self._cache = RowCache(config.num_hidden_layers)

    def __call__(
        self, first_row: int, tokens: Tokens, starts: Sequence[int], adapters: Names
    ) -> torch.Tensor:
        width = max(map(len, tokens))
        length = max(starts) + width
        self._cache.ensure_room(first_row + len(tokens), length)
        padded = [[*row, *[0] * (width - len(row))] for row in tokens]
        places = self._tensor([[*range(first, first + width)] for first in starts])
        start = starts[0] if min(starts) == max(starts) else None
        rows = range(first_row, first_row + len(tokens))
        index = None if start is not None else self._tensor([[row] for row in rows])
        self._cache.window = Window(slice(rows.start, rows.stop), places, length, start, index)
        self._adapters.use(adapters)
        output = self._model(
            input_ids=self._tensor(padded),
            attention_mask=None if self._sees_all(start, width) else self._mask(places, length),
            position_ids=places.clamp(max=self._last_position),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _tensor(self, values: list[list[int]]) -> torch.Tensor:
        return torch.tensor(values, device=self._device)

    def _sees_all(self, start: int | None, width: int) -> bool:
        """Whether no mask is needed: each row's one new token may attend to all before it."""
        return start is not None and width == 1 and self._sliding is None

    def _mask(self, places: torch.Tensor, length: int) -> torch.Tensor | dict[str, torch.Tensor]:
        """What each new token may attend to [rows, 1, tokens, length], per kind of layer."""
        others = torch.arange(length, device=places.device)
        own = places[:, None, :, None]
        causal = others <= own
        if self._sliding is None:
            return self._as_wanted(causal)
        sliding = causal & (others > own - self._sliding)
        if not self._layer_types:
            return self._as_wanted(sliding)
        masks = {"full_attention": causal, "sliding_attention": sliding}
        used = {kind: self._as_wanted(masks[kind]) for kind in set(self._layer_types)}
        return used if len(used) > 1 else next(iter(used.values()))

    def _as_wanted(self, mask: torch.Tensor) -> torch.Tensor:
        """Eager attention adds its mask to the scores; the fused kernels take booleans."""
        if not self._adds_mask:
            return mask
        dtype = self._model.dtype
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(
            ~mask, torch.finfo(dtype).min
        )

    def move(self, source: int, target: int, length: int) -> None:
        self._cache.move(source, target, length)

    def swap(self, one: int, other: int, length: int) -> None:
        self._cache.swap(one, other, length)

    def keep(self, row: int, tokens: tuple[int, ...]) -> Kept | None:
        state = self._cache.copy_of(row, len(tokens))
        nbytes = sum(part.nbytes for part in state)
        return Kept(tokens, state, nbytes, can_be_cut=True, arrays=len(state))

    def restore(self, row: int, prefix: Prefix) -> None:
        assert isinstance(prefix.state, list)
        self._cache.ensure_room(row + 1, prefix.length)
        self._cache.put(row, prefix.state, prefix.length)


class SerialForward:
    """One pass per row, each with a cache of its own: slower, and right for every model."""

    def __init__(self, model: PreTrainedModel, adapters: Adapters) -> None:
        self._model = model
        self._adapters = adapters
        self._caches: dict[int, DynamicCache | None] = {}

    def __call__(
        self, first_row: int, tokens: Tokens, starts: Sequence[int], adapters: Names
    ) -> torch.Tensor:
        rows = enumerate(zip(tokens, starts, adapters, strict=True), start=first_row)
        return torch.cat([self._one(row, *fed) for row, fed in rows])

    def _one(self, row: int, ids: Sequence[int], start: int, adapter: str | None) -> torch.Tensor:
        self._adapters.use((adapter,))
        if start == 0:
            self._caches[row] = DynamicCache(config=self._model.config)
        output = self._model(
            input_ids=torch.tensor([list(ids)], device=self._model.device),
            past_key_values=self._caches[row],
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def move(self, source: int, target: int, length: int) -> None:
        self._caches[target] = self._caches.get(source)

    def swap(self, one: int, other: int, length: int) -> None:
        caches = self._caches
        caches[one], caches[other] = caches.get(other), caches.get(one)

    def keep(self, row: int, tokens: tuple[int, ...]) -> Kept | None:
        return None

    def restore(self, row: int, prefix: Prefix) -> None:
        raise ValueError("nothing was kept that could be restored")
