"""How a reranker's logits become a score in 0..1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.encoding import Floats
from mlxsrv.backends.jsonfile import read_object, read_value
from mlxsrv.core.errors import LoadError

_RELEVANT = frozenset({"relevant", "yes", "true", "positive"})


@dataclass(frozen=True, slots=True)
class Relevance:
    """Which of a classification head's labels says "relevant", and how its logit is read.

    With `independent` labels each logit is a decision of its own, else they share one softmax.
    """

    label: int
    independent: bool

    def scores(self, logits: Floats) -> Floats:
        """From logits [rows, labels] to [rows]. One logit alone is always its own decision.

        Models that are meant to give raw logits (Identity) are read so too: the order of
        documents stays the same, and what comes out is a score in 0..1.
        """
        if self.independent or logits.shape[1] == 1:
            return _sigmoid(logits[:, self.label])
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: Floats = shifted[:, self.label] / shifted.sum(axis=1)
        return shares


@dataclass(frozen=True, slots=True)
class YesNo:
    """The tokens by which a language model says that a document is relevant, or not."""

    yes: int
    no: int | None

    @property
    def ids(self) -> tuple[int, ...]:
        return (self.yes,) if self.no is None else (self.yes, self.no)

    def require_within(self, vocab_size: int) -> None:
        """Raises LoadError where the model has no such tokens."""
        if not all(0 <= token < vocab_size for token in self.ids):
            raise LoadError(f"its answers {self.ids} are not in its vocabulary of {vocab_size}")

    def scores(self, logits: Floats) -> Floats:
        """From the logits of `ids` [rows, 1 or 2] to [rows]: the softmax of the two."""
        return _sigmoid(logits[:, 0] if self.no is None else logits[:, 0] - logits[:, 1])


def _sigmoid(logits: Floats) -> Floats:
    # Of the size of it alone, so that nothing overflows.
    small = np.exp(-np.abs(logits))
    shares: Floats = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
    return shares


def read_relevance(checkpoint: Checkpoint) -> Relevance | YesNo:
    """How this checkpoint's logits are read.

    Raises LoadError where it has no head that could judge.
    """
    architecture = checkpoint.architecture or ""
    if architecture.endswith("ForSequenceClassification"):
        return _read_labels(checkpoint.folder)
    if architecture.endswith("ForCausalLM"):
        return _from_module(checkpoint.folder) or _from_vocabulary(checkpoint.folder)
    raise LoadError(
        f"{checkpoint.folder.name} can't rerank: a {architecture or 'model'} has no head that "
        "judges a query and a document"
    )


def _read_labels(folder: Path) -> Relevance:
    config = read_object(folder / "config.json")
    names = config.get("id2label")
    labels = {str(name).lower(): int(place) for place, name in _items(names) if _is_place(place)}
    label = next((labels[name] for name in sorted(_RELEVANT & labels.keys())), -1)
    return Relevance(label, independent=_activation(config).endswith("Sigmoid"))


def _items(value: object) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _is_place(value: object) -> bool:
    return isinstance(value, str) and value.isdecimal()


def _activation(config: Mapping[str, Any]) -> str:
    """The class that sentence-transformers applies, now or before its version 4."""
    new = config.get("sentence_transformers")
    named = new.get("activation_fn") if isinstance(new, dict) else None
    return str(named or config.get("sbert_ce_default_activation_function") or "")


def _from_module(folder: Path) -> YesNo | None:
    """The tokens that sentence-transformers' LogitScore module names."""
    file = folder / "modules.json"
    modules = read_value(file) if file.exists() else []
    try:
        kinds = {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in modules}
    except (KeyError, TypeError) as error:
        raise LoadError(f"{file} does not list modules") from error
    path = kinds.get("LogitScore")
    if path is None:
        return None
    if Path(path).name != path:
        raise LoadError(f"{folder.name} names a module outside its folder: {path!r}")
    config = read_object(folder / path / "config.json")
    yes, no = config.get("true_token_id"), config.get("false_token_id")
    if type(yes) is not int or not (no is None or type(no) is int):
        raise LoadError(f"{folder / path / 'config.json'} names no tokens")
    return YesNo(yes, no)


def _from_vocabulary(folder: Path) -> YesNo:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        vocabulary: Mapping[str, int] = tokenizer.get_vocab()
    except (ValueError, KeyError, TypeError, OSError, ImportError, RuntimeError) as error:
        raise LoadError(f"can't read the tokenizer of {folder.name}: {error}") from error
    if not {"yes", "no"} <= vocabulary.keys():
        raise LoadError(
            f"{folder.name} can't rerank: its vocabulary has no tokens 'yes' and 'no', by which "
            "such models answer"
        )
    return YesNo(vocabulary["yes"], vocabulary["no"])
