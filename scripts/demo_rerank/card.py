"""The README of the demo rerank model."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.demo_retrieval.data import Triple
from scripts.demo_retrieval.encoder import Run
from scripts.demo_retrieval.probes import PROBES
from scripts.demo_retrieval.score import format_scores, format_share, share

from .evaluate import Score, evaluate

#: A query, and documents in no order; the card shows how relevant they really come out.
EXAMPLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "What is the capital of France?",
        ("Berlin is the capital of Germany.", "Paris is the capital of France.", "A cow says moo.",
         "Anna went to France on holiday."),
    ),
    (
        "Where does Anna live?",
        ("Anna has a dog.", "Tom lives in Oslo.", "The lamp costs 12 dollars. Anna lives in Rome.",
         "The weather in Rome is sunny."),
    ),
    (
        "How do bees sound?",
        ("Bees make honey.", "A bee says buzz.", "A bee has six legs.", "An owl says hoot."),
    ),
)  # fmt: skip


def _example(score: Score, query: str, documents: Sequence[str]) -> str:
    relevances = score([query] * len(documents), documents)
    rows = sorted(zip(relevances, documents, strict=True), reverse=True)
    found = "\n".join(f"| {relevance:.3f} | {document} |" for relevance, document in rows)
    return f"| relevance | *{query}* |\n|---:|---|\n{found}"


def model_card(score: Score, triples: Sequence[Triple], run: Run) -> str:
    """Write the README of the model; the examples and the scores are run."""
    held_out, probes = evaluate(score, triples), evaluate(score, PROBES)
    examples = "\n\n".join(_example(score, *example) for example in EXAMPLES)
    return f"""\
---
license: mit
language: en
pipeline_tag: text-ranking
---

# demo-rerank

A toy. It is a BERT cross-encoder of {run.parameters / 1e6:.2f} million parameters, trained on a
CPU by `scripts/demo_rerank/train.py`, only on sentences which the scripts make up. It exists so
that a rerank server can be tried and tested without a download. It is not useful for anything
else.

It says how well a document answers a query, from 0 to 1, in the world of the demo chat model:
facts (capitals, colours, animals, days, planets, a few words on language models), questions to
the model about itself, small sums, and people, things and cities with made-up properties (where
somebody lives, what a lamp costs, the weather in Oslo). A document is a sentence, or a passage
of a few that has the answer in it. Of other texts it knows little more than which words they
share.

Format: WordPiece without case, one label, whose sigmoid is the relevance, weights in float32, up
to 256 tokens of query and document together.

## Examples

{examples}

## Training

{run}; from the weights of
`demo-embedding`, with as many documents that answer the query as others, half of which were
chosen to read like an answer. Every batch was newly generated; a hash of every sentence keeps one
in five out of the training.

## Score

Share of the triples whose relevant document has the higher score, with transformers in float32.
The held-out ones are `tests/data/demo_rerank_heldout.jsonl`: no sentence of them was trained on,
but the patterns of those on people, things, cities and sums were, with other names and values.
Half of the irrelevant documents were chosen to read alike (same words, same subject). The probes
(`scripts/demo_retrieval/probes.py`) were written by hand and follow no pattern.

- held-out: {format_share(held_out)}
- scores there: {format_scores(held_out)}
- probes: {share(probes):.1%} of {len(probes)}
"""
