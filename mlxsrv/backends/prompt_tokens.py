"""The token ids that a text encoder of an image model reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxsrv.core.errors import LoadError


class PromptTokens:
    """The tokenizer in a part's folder; every prompt is cut or padded to `length` ids."""

    def __init__(self, folder: Path, most: int, vocabulary: int) -> None:
        """`most` ids, fewer where the tokenizer says so; all less than `vocabulary`.

        Raises LoadError.
        """
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except (ValueError, KeyError, TypeError, OSError, ImportError) as error:
            raise LoadError(f"the tokenizer in {folder} can't be loaded: {error}") from error
        known = self._tokenizer.get_vocab().values()
        if len(known) == len(self._tokenizer.added_tokens_decoder):
            # Without a vocabulary's file some tokenizers are made of their special tokens alone.
            raise LoadError(f"{folder} has no tokenizer: it needs its vocabulary")
        if max(known) >= vocabulary:
            raise LoadError(f"the tokenizer in {folder} has more tokens than its text encoder")
        self.length = min(most, int(self._tokenizer.model_max_length))

    def ids(self, prompt: str) -> NDArray[np.int64]:
        """[length]"""
        found = self._tokenizer(
            prompt,
            padding="max_length",
            max_length=self.length,
            truncation=True,
            return_tensors="np",
        )
        ids: NDArray[np.int64] = found["input_ids"][0]
        return ids
