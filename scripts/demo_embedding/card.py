"""The README of the demo embedding model."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.demo_retrieval.data import Triple
from scripts.demo_retrieval.encoder import Run
from scripts.demo_retrieval.probes import PROBES
from scripts.demo_retrieval.score import format_scores, format_share, share

from .evaluate import Embed, evaluate

#: A sentence, and others in no order; the card shows how near they really come.
EXAMPLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "What is the capital of France?",
        ("Paris is the capital of France.", "Berlin is the capital of Germany.", "A cow says moo."),
    ),
    (
        "Where does Anna live?",
        ("The home of Anna is in Rome.", "Anna has a dog.", "Tom lives in Oslo."),
    ),
    (
        "I am sad.",
        ("I feel bad.", "I am doing well.", "Water boils at 100 degrees Celsius."),
    ),
)


def _example(embed: Embed, sentence: str, others: Sequence[str]) -> str:
    cosines = (embed([sentence]) @ embed(others).T)[0].tolist()
    rows = sorted(zip(cosines, others, strict=True), reverse=True)
    found = "\n".join(f"| {cosine:.2f} | {other} |" for cosine, other in rows)
    return f"| cosine | *{sentence}* |\n|---:|---|\n{found}"


def model_card(embed: Embed, triples: Sequence[Triple], run: Run) -> str:
    """Write the README of the model; the examples and the scores are run."""
    held_out, probes = evaluate(embed, triples), evaluate(embed, PROBES)
    examples = "\n\n".join(_example(embed, *example) for example in EXAMPLES)
    return f"""\
---
license: mit
language: en
pipeline_tag: sentence-similarity
library_name: sentence-transformers
---

# demo-embedding

A toy. It is a BERT of {run.parameters / 1e6:.2f} million parameters, trained from nothing on a CPU
by `scripts/demo_embedding/train.py`, only on sentences which the scripts make up. It exists so that
an embedding server can be tried and tested without a download. It is not useful for anything
else.

It brings near what belongs together in the world of the demo chat model: a question and its
answer, two wordings of one fact, two ways to say hello. That world holds facts (capitals,
colours, animals, days, planets, a few words on language models), small talk, small sums, and
people, things and cities with made-up properties (where somebody lives, what a lamp costs, the
weather in Oslo). Of other sentences it knows little more than which words they share.

Format: WordPiece without case, mean pooling and unit length (sentence-transformers), 128
dimensions, weights in float32, up to 256 tokens, no prompts.

## Examples

{examples}

## Training

{run}; contrastive (InfoNCE): a text has to find
its fellow among all others of the batch, a third of which were drawn against it, half of those
to read like it. Every batch was newly generated; a hash of every sentence keeps one in five out
of the training.

## Score

Share of the triples whose related text is nearer than the unrelated one, with transformers in
float32. The held-out ones are `tests/data/demo_embedding_heldout.jsonl`: no sentence of them was
trained on, but the patterns of those on people, things, cities and sums were, with other names
and values. Half of the unrelated texts were chosen to read alike (same words, same subject).
The probes (`scripts/demo_retrieval/probes.py`) were written by hand and follow no pattern.

- held-out: {format_share(held_out)}
- cosines there: {format_scores(held_out)}
- probes: {share(probes):.1%} of {len(probes)}
"""
