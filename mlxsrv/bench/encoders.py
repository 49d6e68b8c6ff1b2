"""Random-weight BERT encoders to measure with, in the published format.

The sizes are those of all-MiniLM-L6-v2 and of ms-marco-MiniLM-L6-v2. Each of our words is one
token, and a text has two more around it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlxsrv.bench import words
from mlxsrv.bench.checkpoints import Checkpoint, cached

if TYPE_CHECKING:
    import numpy as np

    Weights = dict[str, np.ndarray[Any, Any]]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(len(SPECIAL))
POSITIONS = 512
LONGEST = 256
"""Tokens of a text that sentence-transformers reads of this model."""
SPREAD = 0.05
"""Standard deviation of the weights: enough that texts differ, too little to overflow."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a BERT. `scores` makes it a cross-encoder with one label."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    scores: bool = False

    @property
    def known_words(self) -> int:
        """The vocabulary for which a `Speaker` has just the words that the tokenizer knows."""
        return self.vocabulary - len(SPECIAL) + words.FIRST_WORD


SHAPES = {
    "minilm": Shape(384, 6, 12, 1536, 30522),
    "minilm-rerank": Shape(384, 6, 12, 1536, 30522, scores=True),
}


def ensure(name: str, cache: Path) -> Checkpoint:
    """The encoder of that name, built first if it is not there. Raises KeyError."""
    shape = SHAPES[name]
    folder = cached(name, cache, lambda unfinished: build(unfinished, shape))
    size = (folder / "model.safetensors").stat().st_size
    return Checkpoint(name, folder, shape.known_words, size)


def build(folder: Path, shape: Shape, seed: int = 0) -> None:
    """Writes a whole checkpoint into an existing folder."""
    from safetensors.numpy import save_file

    _write_tokenizer(folder, shape.vocabulary)
    _write(folder / "config.json", config(shape))
    if not shape.scores:
        _write_sentence_files(folder, shape)
    save_file(weights(shape, seed), folder / "model.safetensors", metadata={"format": "pt"})


def config(shape: Shape) -> dict[str, Any]:
    made: dict[str, Any] = {
        "architectures": ["BertForSequenceClassification" if shape.scores else "BertModel"],
        "model_type": "bert",
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "pad_token_id": PAD,
        "torch_dtype": "float32",
    }
    labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    return made | labels if shape.scores else made


def _write_tokenizer(folder: Path, size: int) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    spoken = words.words(size - len(SPECIAL))
    ids = {token: id_ for id_, token in enumerate((*SPECIAL, *spoken))}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=SPECIAL[UNK]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]",
        "[CLS] $A [SEP] $B:1 [SEP]:1",
        [(SPECIAL[CLS], CLS), (SPECIAL[SEP], SEP)],
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join((*SPECIAL, *spoken)) + "\n", encoding="utf-8")
    names = ("pad", "unk", "cls", "sep", "mask")
    tokens = {f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)}
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": POSITIONS}
    _write(folder / "tokenizer_config.json", settings | tokens | {"do_lower_case": True})


def _write_sentence_files(folder: Path, shape: Shape) -> None:
    parts = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    modules = [
        {
            "idx": place,
            "name": str(place),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for place, (kind, path) in enumerate(parts)
    ]
    _write(folder / "modules.json", modules)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": LONGEST})
    pooling = {"word_embedding_dimension": shape.hidden, "pooling_mode_mean_tokens": True}
    _write(folder / "1_Pooling" / "config.json", pooling)


def _write(file: Path, what: Mapping[str, Any] | list[dict[str, Any]]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(what, indent=1), encoding="utf-8")


def weights(shape: Shape, seed: int) -> Weights:
    """Random weights by the names that BERT's tensors have on the hub."""
    import numpy as np

    rng = np.random.default_rng(seed)
    hidden, prefix = shape.hidden, "bert." if shape.scores else ""
    tensors: Weights = {}

    def matrix(name: str, rows: int, columns: int) -> None:
        values = rng.standard_normal((rows, columns), dtype=np.float32)
        tensors[f"{name}.weight"] = np.asarray(SPREAD * values, np.float32)

    def linear(name: str, rows: int, columns: int) -> None:
        matrix(name, rows, columns)
        tensors[f"{name}.bias"] = np.zeros(rows, np.float32)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = np.ones(hidden, np.float32)
        tensors[f"{name}.bias"] = np.zeros(hidden, np.float32)

    matrix(f"{prefix}embeddings.word_embeddings", shape.vocabulary, hidden)
    matrix(f"{prefix}embeddings.position_embeddings", POSITIONS, hidden)
    matrix(f"{prefix}embeddings.token_type_embeddings", 2, hidden)
    norm(f"{prefix}embeddings.LayerNorm")
    for number in range(shape.layers):
        layer = f"{prefix}encoder.layer.{number}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", hidden, hidden)
        linear(f"{layer}.attention.output.dense", hidden, hidden)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", shape.intermediate, hidden)
        linear(f"{layer}.output.dense", hidden, shape.intermediate)
        norm(f"{layer}.output.LayerNorm")
    linear(f"{prefix}pooler.dense", hidden, hidden)
    if shape.scores:
        linear("classifier", 1, hidden)
    return tensors
