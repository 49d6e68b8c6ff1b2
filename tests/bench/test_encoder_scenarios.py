"""Embeddings, adapters and models that come and go, measured on real servers of ours."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from mlxsrv.backends.adapter_files import read_adapter
from mlxsrv.backends.checkpoint import read
from mlxsrv.backends.sentence import read_sentence
from mlxsrv.bench import adapters, checkpoints, encoders, scrape
from mlxsrv.bench.answer import Answer
from mlxsrv.bench.client import Endpoint
from mlxsrv.bench.keepalive import Refused, post
from mlxsrv.bench.scenarios import SCENARIOS, turns
from mlxsrv.bench.words import Speaker
from mlxsrv.cli.bench import SCENARIO_NAMES
from mlxsrv.cli.main import main

LLAMA = checkpoints.Shape(64, 2, 1, 1, 64, 4000)
BERT = encoders.Shape(32, 1, 2, 64, 300)
SCORES = encoders.Shape(32, 1, 2, 64, 300, scores=True)


@pytest.fixture
def small_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in checkpoints.SHAPES:
        monkeypatch.setitem(checkpoints.SHAPES, name, LLAMA)
    monkeypatch.setitem(encoders.SHAPES, "minilm", BERT)
    monkeypatch.setitem(encoders.SHAPES, "minilm-rerank", SCORES)


def test_an_encoder_is_one_that_the_server_reads(tmp_path: Path) -> None:
    encoders.build(tmp_path, BERT)
    found = read(tmp_path)
    settings = read_sentence(found)
    assert (found.model_type, found.dtype) == ("bert", "float32")
    assert (settings.normalized, settings.max_seq_length) == (True, encoders.LONGEST)


def test_each_word_is_one_token_of_an_encoder(tmp_path: Path) -> None:
    encoders.build(tmp_path, BERT)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = Speaker(BERT.known_words, 1).text(9)
    ids = tokenizer.encode(text)
    assert (len(ids), ids[0], ids[-1]) == (11, encoders.CLS, encoders.SEP)
    assert encoders.UNK not in ids
    assert tokenizer.convert_ids_to_tokens(ids[1:-1]) == text.split()


def test_sentence_transformers_reads_what_is_built(tmp_path: Path) -> None:
    sentences = pytest.importorskip("sentence_transformers")
    encoders.build(tmp_path, BERT)
    model = sentences.SentenceTransformer(str(tmp_path), device="cpu")
    speaker = Speaker(BERT.known_words, 1)
    one, other = model.encode([speaker.text(5), speaker.text(30)])
    assert np.linalg.norm([one, other], axis=1) == pytest.approx([1, 1])
    assert one @ other < 0.99, "texts differ"


def test_an_adapter_holds_every_projection(tmp_path: Path) -> None:
    adapters.build(tmp_path, LLAMA, 1)
    found = read_adapter(tmp_path)
    assert set(found.layers) == set(adapters.sizes(LLAMA))
    assert found.rank == adapters.RANK


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.integers(0, 9)))
def test_metrics_that_differ_by_labels_are_added_up(values: dict[str, int]) -> None:
    lines = [f'x_bytes{{kind="{kind}"}} {value}.0' for kind, value in values.items()]
    found = scrape.parse("\n".join(["# HELP x_bytes what", *lines, "alone 2e+06"]))
    assert found["x_bytes"] == sum(values.values())
    assert found["alone"] == 2e6
    assert found["nothing"] == 0


def answered(which: int, ended: float, status: int = 200) -> turns.Named:
    return which, Answer(0.0, ended, status=status, error=None if status == 200 else "HTTP")


def test_a_switch_is_an_answer_from_the_other_model() -> None:
    answers = [answered(0, 1.0), answered(1, 3.0), answered(0, 2.0), answered(0, 4.0)]
    assert turns.switches(answers) == 2
    sample = turns.figures([*answers, answered(1, 1.5, 503), answered(1, 5.0, 500)])
    by_name = {metric.name: value for metric, value in sample.items()}
    assert by_name["declared 503s"] == 1
    assert by_name["errors"] == 1
    assert by_name["answers"] == 4
    assert by_name["answer, longest"] == 4.0


def exchange(answer: bytes) -> Any:
    async def use() -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await post(Endpoint("127.0.0.1", port, "x"), "/", {})

    return asyncio.run(use())


def test_an_answer_over_a_kept_connection() -> None:
    assert exchange(b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{"a":1}') == {"a": 1}


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (b"HTTP/1.1 404 No\r\ncontent-length: 4\r\n\r\nnone", 404, "none"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", 0, "5 bytes read"),
        (b"", 0, "0 bytes read"),
    ],
)
def test_what_is_no_good_answer_is_refused(answer: bytes, status: int, said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        exchange(answer)
    assert refused.value.status == status


def test_the_help_names_every_scenario() -> None:
    assert tuple(SCENARIOS) == SCENARIO_NAMES


def measured(tmp_path: Path, *words: str) -> list[dict[tuple[str, str], float]]:
    """The results of a run, each with its last target's medians by case and name."""
    written = tmp_path / "bench.json"
    always = ["--dir", str(tmp_path), "--json", str(written), "--against", "none"]
    assert main(["bench", *words, *always]) == 0
    return [
        {(m["case"], m["name"]): m["median"] for m in result["targets"][-1]["metrics"]}
        for result in json.loads(written.read_text())["results"]
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("small_shapes")
def test_embeddings_are_measured(tmp_path: Path) -> None:
    words = ["embeddings", "--backend", "torch", "--rounds", "1", "--sentences", "40"]
    (found,) = measured(tmp_path, *words)
    for case in ("one request", "32 clients"):
        assert found[case, "pace"] > 0
        assert found[case, "errors"] == 0
        assert 0 <= found[case, "padding"] < 100


@pytest.mark.slow
@pytest.mark.usefixtures("small_shapes")
def test_adapters_and_models_that_come_and_go_are_measured(tmp_path: Path) -> None:
    words = ["adapters", "load-cycles", "turns", "--backend", "torch", "--max-tokens", "4"]
    words += ["--rounds", "1", "--cycles", "6", "--seconds", "2"]
    adapted, cycles, turned = measured(tmp_path, *words)
    assert adapted["4 adapters", "errors"] == 0
    assert adapted["4 adapters", "throughput / base's"] > 0
    assert cycles["", "errors"] == 0
    assert cycles["held by models", "at the end / after 3"] == pytest.approx(1)
    assert turned["", "errors"] == 0
    assert turned["", "switches"] > 0
    assert turned["", "memory held, highest / budget"] <= 1
