"""The built-in embedding and rerank models, asked over HTTP as a new user would."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from mlxsrv.backends.builtin import builtin_folder
from mlxsrv.backends.checkpoint import read
from mlxsrv.core.kinds import Kind
from scripts.demo_retrieval import data, topics
from tests.e2e.process import Process

DATA = Path(__file__).parents[1] / "data"
TRIPLES: dict[data.Task, list[data.Triple]] = {
    "near": data.read_triples(DATA / "demo_embedding_heldout.jsonl"),
    "answer": data.read_triples(DATA / "demo_rerank_heldout.jsonl"),
}


def embed(server: Process, texts: list[str]) -> npt.NDArray[np.float64]:
    """Embeddings [texts, dimensions]."""
    with server.openai() as client:
        answer = client.embeddings.create(model="demo-embedding", input=texts)
    return np.array([row.embedding for row in answer.data])


def rerank(server: Process, query: str, documents: list[str]) -> list[dict[str, Any]]:
    body = {"model": "demo-rerank", "query": query, "documents": documents}
    answer = httpx.post(f"{server.url}/v1/rerank", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def relevances(server: Process, query: str, documents: list[str]) -> list[float]:
    """Scores in the order of `documents`."""
    results = sorted(rerank(server, query, documents), key=lambda result: result["index"])
    return [result["relevance_score"] for result in results]


@pytest.mark.slow
def test_nine_of_ten_related_sentences_come_nearer_than_unrelated_ones(
    demo: Process, share: slice
) -> None:
    triples = TRIPLES["near"][share]
    assert len(triples) >= 150
    columns = ([getattr(t, part) for t in triples] for part in ("anchor", "positive", "negative"))
    anchors, positives, negatives = (embed(demo, column) for column in columns)
    nearer = (anchors * positives).sum(1) > (anchors * negatives).sum(1)
    assert nearer.mean() >= 0.9
    hard = np.array([triple.hard for triple in triples])
    assert nearer[hard].mean() >= 0.9


@pytest.mark.slow
def test_nine_of_ten_relevant_documents_come_first(demo: Process, share: slice) -> None:
    triples = TRIPLES["answer"][share]
    assert len(triples) >= 150
    with ThreadPoolExecutor(16) as pool:
        scores = np.array(
            list(pool.map(lambda t: relevances(demo, t.anchor, [t.positive, t.negative]), triples))
        )
    assert (scores[:, 0] > scores[:, 1]).mean() >= 0.9
    assert (scores[:, 0] > 0.5).mean() >= 0.8
    assert (scores[:, 1] < 0.5).mean() >= 0.8


def test_a_paraphrase_is_near_and_another_subject_is_far(demo: Process) -> None:
    asked, same, other = embed(
        demo, ["What is the capital of France?", "Paris is the capital of France.", "I am sad."]
    )
    assert np.linalg.norm(asked) == pytest.approx(1, abs=1e-4)
    assert asked @ same > 0.6
    assert asked @ other < 0.4


def test_the_answer_in_a_passage_is_found(demo: Process) -> None:
    documents = [
        "Anna has a dog.",
        "Tom lives in Oslo.",
        "The lamp costs 12 dollars. Anna lives in Rome.",
        "A cow says moo.",
    ]
    results = rerank(demo, "Where does Anna live?", documents)
    assert results[0]["index"] == 2
    assert results[0]["relevance_score"] > 0.5 > results[1]["relevance_score"]


def test_any_unicode_text_goes_in(demo: Process) -> None:
    texts = ["Ünïcödé 日本語 🤖 مرحبا", "\u0000\u200d\ufeff", "[CLS] [MASK] [SEP]"]
    assert np.isfinite(embed(demo, texts)).all()
    assert all(0 <= score <= 1 for score in relevances(demo, texts[0], texts))


@pytest.mark.parametrize(
    ("name", "kind"), [("demo-embedding", Kind.EMBEDDING), ("demo-rerank", Kind.RERANK)]
)
def test_the_folder_is_what_it_says_and_small(name: str, kind: Kind) -> None:
    folder = builtin_folder(name)
    assert folder is not None
    assert read(folder).kind == kind
    assert read(folder).context_length == 256
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 4_000_000


@pytest.mark.parametrize("task", ["near", "answer"])
def test_no_held_out_sentence_is_trained(task: data.Task) -> None:
    texts = [text for t in TRIPLES[task] for text in (t.anchor, t.positive, t.negative)]
    held = {normal(sentence) for text in texts for sentence in sentences(text)}
    assert all(topics.is_held_out(sentence) for sentence in held)
    rng = Random(0)
    for _ in range(2000):
        trained = data.example(rng, task).triple
        assert held.isdisjoint(map(normal, (trained.anchor, trained.positive, trained.negative)))


def sentences(text: str) -> list[str]:
    """Those of a passage, which are all statements; a question may be of two sentences."""
    return [text] if "?" in text else re.split(r"(?<=\.) ", text)


def normal(sentence: str) -> str:
    return " ".join(topics.words_of(sentence))


def test_the_held_out_sets_are_those_that_the_scripts_make() -> None:
    for task, triples in TRIPLES.items():
        assert data.held_out_triples(task) == triples
        assert Counter(triple.category for triple in triples) == Counter(data.COUNTS)
