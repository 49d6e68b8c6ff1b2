"""Score the demo rerank model on its held-out set with plain transformers.

Run from the repository root: ``python -m scripts.demo_rerank.evaluate``.
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

MODEL_PATH = Path("models/demo-rerank")
HELD_OUT_PATH = Path("tests/data/demo_rerank_heldout.jsonl")

#: Queries, and a document for each, to relevances from 0 to 1.
Score = Callable[[Sequence[str], Sequence[str]], list[float]]


def scorer(folder: Path) -> Score:
    """Load the model with transformers, in float32."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    model.eval()

    def score(queries: Sequence[str], documents: Sequence[str]) -> list[float]:
        inputs = tokenizer(
            list(queries), list(documents), padding=True, truncation=True, return_tensors="pt"
        )
        with torch.inference_mode():
            relevances: list[float] = model(**inputs).logits[:, 0].sigmoid().tolist()
        return relevances

    return score


def evaluate(score: Score, triples: Sequence[Triple]) -> list[Mark]:
    """Mark every triple with its relevances."""
    queries = [triple.anchor for triple in triples]
    relevant = score(queries, [triple.positive for triple in triples])
    irrelevant = score(queries, [triple.negative for triple in triples])
    return [Mark(*row) for row in zip(triples, relevant, irrelevant, strict=True)]


def main() -> int:
    """Score a model from the command line; exit 1 below ``--at-least``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL_PATH)
    parser.add_argument("--items", type=Path, default=HELD_OUT_PATH)
    parser.add_argument("--at-least", type=float, default=0.0, help="share that must be right")
    args = parser.parse_args()
    score = scorer(args.model)
    marks = evaluate(score, read_triples(args.items))
    for name, of in (("held-out", marks), ("probes", evaluate(score, PROBES))):
        print_wrong(of)
        print(f"{name}: {format_share(of)}\n{name}: {format_scores(of)}")
    return 0 if share(marks) >= args.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
