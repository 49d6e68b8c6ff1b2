"""Train the demo rerank model, export it and score it.

Run from the repository root: ``python -m scripts.demo_rerank.train``.  It begins where the demo
embedding model ended, which is to be trained first.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from transformers import BertForSequenceClassification, BertModel

from scripts.demo_embedding.evaluate import MODEL_PATH as EMBEDDING_PATH
from scripts.demo_retrieval import data
from scripts.demo_retrieval.encoder import OTHERS, export, in_parts, make_config, train

from .card import model_card
from .evaluate import HELD_OUT_PATH, MODEL_PATH, scorer

DROPOUT = 0.1
#: The relevance that a document should get which is relevant: never quite one, so that the model
#: does not learn to be sure of what it has not seen.
SURE = 0.97


def make_batch(rng: Random, size: int) -> list[data.Example]:
    """Draw a batch; the longer its passages, the fewer examples it has."""
    others = rng.choices(list(OTHERS), list(OTHERS.values()))[0]
    return [data.example(rng, "answer", others=others) for _ in range(max(6, size // (1 + others)))]


def loss_of(
    model: BertForSequenceClassification, tokenizer: Tokenizer, batch: list[data.Example]
) -> torch.Tensor:
    """Cross-entropy of relevant or not, as many of one as of the other."""

    def score(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = model(**inputs).logits
        return logits[:, 0]

    relevant = [(one.anchor.text, one.positive.text) for one in batch]
    irrelevant = [(one.anchor.text, one.negative.text) for one in batch]
    logits = in_parts(score, tokenizer, relevant + irrelevant)
    right = torch.full(logits.shape, 1 - SURE)
    right[: len(relevant)] = SURE
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, right)


def begin(folder: Path) -> tuple[Tokenizer, BertForSequenceClassification]:
    """Put an untrained head on the encoder of the embedding model in ``folder``."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = BertForSequenceClassification(make_config(tokenizer, DROPOUT, num_labels=1))
    model.bert.load_state_dict(BertModel.from_pretrained(folder).state_dict())
    return tokenizer, model


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=MODEL_PATH)
    parser.add_argument("--held-out", type=Path, default=HELD_OUT_PATH)
    parser.add_argument("--start-from", type=Path, default=EMBEDDING_PATH)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=128, help="triples of single sentences")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    """Train, export and score."""
    args = parse_args()
    torch.manual_seed(args.seed)
    triples = data.held_out_triples("answer")
    data.write_triples(triples, args.held_out)
    tokenizer, model = begin(args.start_from)
    rng = Random(args.seed)
    run = train(
        model,
        lambda: loss_of(model, tokenizer, make_batch(rng, args.batch)),
        args.steps,
        args.rate,
    )
    export(model, tokenizer, args.out, {})
    card = model_card(scorer(args.out), triples, run)
    (args.out / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
