"""What text encoders make of prompts: the last few are remembered, and so may be the only ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mlxsrv.backends.recent import Recent
from mlxsrv.backends.torch.image_parts import Folder
from mlxsrv.backends.torch.image_slices import pause

KEPT = 4
"""Prompts; each takes up to some megabytes."""


class Prompts:
    """Encodes prompts for pipelines, whose text encoders are in `components`.

    Those that are None there although the folder has them are loaded for a prompt, and dropped
    once nobody encodes any more.
    """

    def __init__(self, folder: Folder, components: Mapping[str, Any]) -> None:
        self._folder = folder
        self._staged = [name for name in folder.encoders if components[name] is None]
        self._loaded: dict[str, Any] = {}
        self._users = 0
        self._recent: Recent[tuple[Any, ...], Any] = Recent(KEPT)

    @contextmanager
    def serving(self, pipeline: Any) -> Iterator[None]:
        """Meanwhile the pipeline has its prompts encoded here."""
        encode = pipeline.encode_prompt

        def encoded(**asked: Any) -> Any:
            return self._encoded(pipeline, encode, asked)

        pipeline.encode_prompt = encoded
        try:
            yield
        finally:
            # Else the two would keep each other, and the model, in memory.
            del pipeline.encode_prompt

    def _encoded(self, pipeline: Any, encode: Callable[..., Any], asked: dict[str, Any]) -> Any:
        # Together with pictures, a prompt hardly comes twice.
        if asked.get("image") is not None:
            with self._encoders(pipeline):
                return encode(**asked)
        key = tuple(sorted(asked.items(), key=lambda item: item[0]))
        known = self._recent.get(key)
        if known is None:
            with self._encoders(pipeline):
                known = encode(**asked)
            self._recent.put(key, known)
        return known

    @contextmanager
    def _encoders(self, pipeline: Any) -> Iterator[None]:
        self._users += 1
        try:
            for name in self._staged:
                if name not in self._loaded:
                    self._loaded[name] = self._folder.load(name)
                setattr(pipeline, name, self._loaded[name])
                pause()
            yield
        finally:
            self._users -= 1
            for name in self._staged:
                setattr(pipeline, name, None)
            if not self._users:
                self._loaded.clear()
