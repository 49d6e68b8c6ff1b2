"""Score the demo embedding model on its held-out set with plain transformers.

Run from the repository root: ``python -m scripts.demo_embedding.evaluate``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from scripts.demo_retrieval.data import Triple, read_triples
from scripts.demo_retrieval.probes import PROBES
from scripts.demo_retrieval.score import Mark, format_scores, format_share, print_wrong, share

MODEL_PATH = Path("models/demo-embedding")
HELD_OUT_PATH = Path("tests/data/demo_embedding_heldout.jsonl")

#: Sentences to embeddings of length one, [sentences, dimensions].
Embed = Callable[[Sequence[str]], torch.Tensor]


def mean_of(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average ``hidden`` [rows, tokens, size] where ``mask`` [rows, tokens] is 1; unit length."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    mean = (hidden * weights).sum(1) / weights.sum(1)
    return torch.nn.functional.normalize(mean, dim=-1)


def embedder(folder: Path) -> Embed:
    """Load the model and embed as its sentence-transformers files say: mean, then unit length."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32)
    model.eval()

    def embed(texts: Sequence[str]) -> torch.Tensor:
        inputs = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**inputs).last_hidden_state
        return mean_of(hidden, inputs["attention_mask"])

    return embed


def evaluate(embed: Embed, triples: Sequence[Triple]) -> list[Mark]:
    """Mark every triple with its cosines."""
    columns = ([getattr(t, part) for t in triples] for part in ("anchor", "positive", "negative"))
    anchors, positives, negatives = (embed(column) for column in columns)
    related, unrelated = (anchors * positives).sum(-1), (anchors * negatives).sum(-1)
    scores = zip(triples, related.tolist(), unrelated.tolist(), strict=True)
    return [Mark(*row) for row in scores]


def main() -> int:
    """Score a model from the command line; exit 1 below ``--at-least``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL_PATH)
    parser.add_argument("--items", type=Path, default=HELD_OUT_PATH)
    parser.add_argument("--at-least", type=float, default=0.0, help="share that must be right")
    args = parser.parse_args()
    embed = embedder(args.model)
    marks = evaluate(embed, read_triples(args.items))
    for name, of in (("held-out", marks), ("probes", evaluate(embed, PROBES))):
        print_wrong(of)
        print(f"{name}: {format_share(of)}\n{name}: {format_scores(of)}")
    return 0 if share(marks) >= args.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
