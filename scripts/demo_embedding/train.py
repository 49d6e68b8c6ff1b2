"""Train the demo embedding model from nothing, export it and score it.

Run from the repository root: ``python -m scripts.demo_embedding.train``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from transformers import BertModel

from scripts.demo_retrieval import data
from scripts.demo_retrieval.encoder import OTHERS, export, in_parts, make_config, train
from scripts.demo_retrieval.tokens import MAX_LENGTH, train_tokenizer

from .card import model_card
from .evaluate import HELD_OUT_PATH, MODEL_PATH, embedder, mean_of

TEMPERATURE = 0.06

#: What sentence-transformers reads besides the model: mean pooling, then unit length.
SENTENCE_FILES: dict[str, object] = {
    "modules.json": [
        {"idx": idx, "name": str(idx), "path": path, "type": f"sentence_transformers.models.{name}"}
        for idx, (path, name) in enumerate(
            (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
        )
    ],
    "1_Pooling/config.json": {
        "word_embedding_dimension": 128,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    },
    "sentence_bert_config.json": {"max_seq_length": MAX_LENGTH, "do_lower_case": False},
    "config_sentence_transformers.json": {
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    },
}


def make_batch(rng: Random, size: int) -> list[data.Example]:
    """Draw a batch; the longer its passages, the fewer examples it has."""
    others = rng.choices(list(OTHERS), list(OTHERS.values()))[0]
    return [data.example(rng, "near", others=others) for _ in range(max(8, size // (1 + others)))]


def contrast(anchors: torch.Tensor, others: torch.Tensor, related: torch.Tensor) -> torch.Tensor:
    """InfoNCE: each of ``anchors`` [n, d] is to find its own of ``others`` [m, d], the first n.

    ``related`` [n, m] says what else is right and so is no negative.  van den Oord et al. 2018,
    https://arxiv.org/abs/1807.03748
    """
    own = torch.eye(*related.shape, dtype=torch.bool)
    logits = (anchors @ others.T / TEMPERATURE).masked_fill(related & ~own, float("-inf"))
    return torch.nn.functional.cross_entropy(logits, torch.arange(len(anchors)))


def loss_of(model: BertModel, tokenizer: Tokenizer, batch: list[data.Example]) -> torch.Tensor:
    """Contrast a batch both ways: anchors with all documents, their documents with all anchors."""
    anchors = [one.anchor for one in batch]
    documents = [one.positive for one in batch] + [one.negative for one in batch]

    def embed(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return mean_of(model(**inputs).last_hidden_state.float(), inputs["attention_mask"])

    rows = in_parts(embed, tokenizer, [text.text for text in anchors + documents])
    asked, found = rows[: len(batch)], rows[len(batch) :]
    related = torch.tensor(
        [[not a.claims.isdisjoint(d.claims) for d in documents] for a in anchors]
    )
    back = contrast(found[: len(batch)], asked, related[:, : len(batch)].T)
    return (contrast(asked, found, related) + back) / 2


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=MODEL_PATH)
    parser.add_argument("--held-out", type=Path, default=HELD_OUT_PATH)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch", type=int, default=128, help="triples of single sentences")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Train, export and score."""
    args = parse_args()
    torch.manual_seed(args.seed)
    triples = data.held_out_triples("near")
    data.write_triples(triples, args.held_out)
    tokenizer = train_tokenizer(args.seed)
    model = BertModel(make_config(tokenizer))
    rng = Random(args.seed)
    run = train(
        model,
        lambda: loss_of(model, tokenizer, make_batch(rng, args.batch)),
        args.steps,
        args.rate,
    )
    export(model, tokenizer, args.out, SENTENCE_FILES)
    card = model_card(embedder(args.out), triples, run)
    (args.out / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
