"""What every text backend must do, proven on both with the same checkpoints."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from mlxsrv.backends.base import TextBackend
from mlxsrv.backends.select import Backend
from mlxsrv.core.errors import LoadError
from mlxsrv.core.text import Prefix, Sampling, Sequence, TokenOut
from tests.tiny_models import ARCHITECTURES

pytestmark = pytest.mark.slow

GREEDY = Sampling(temperature=0.0)
PROMPT = (5, 17, 99, 250, 31)
STORIES = Path(__file__).parents[3] / "shared/data/stories260K"

Load = Callable[..., TextBackend]


def run(
    backend: TextBackend, first: Iterable[Sequence], later: Iterable[Sequence] = ()
) -> dict[int, list[TokenOut]]:
    """Runs sequences to their end; those of `later` join at the fifth step."""
    first, later = list(first), list(later)
    outs: dict[int, list[TokenOut]] = {s.uid: [] for s in first + later}
    for sequence in first:
        backend.insert(sequence)
    live, step = len(outs), 0
    while live:
        step += 1
        assert step < 2000, "the batch never ends"
        if step == 5:
            for sequence in later:
                backend.insert(sequence)
        for out in backend.step():
            outs[out.uid].append(out)
            live -= out.finish is not None or out.error is not None
    return outs


def tokens(outs: list[TokenOut]) -> list[int]:
    return [out.token for out in outs]


def mixed_sequences() -> list[Sequence]:
    """Sequences that differ in everything that could mix them up in a batch."""
    settings = [
        GREEDY,
        Sampling(seed=1),
        Sampling(temperature=0.8, top_p=0.9, seed=2),
        Sampling(temperature=1.3, top_k=20, seed=3, frequency_penalty=0.5),
        Sampling(min_p=0.05, seed=4, presence_penalty=1.0),
        Sampling(seed=5, repetition_penalty=1.2),
        Sampling(seed=6, logit_bias={7: 3.0, 250: -100.0}),
        Sampling(temperature=0.0, repetition_penalty=1.3, frequency_penalty=0.2),
    ]
    return [
        Sequence(
            uid=100 + place,
            prompt=PROMPT[: 1 + place % 5] + tuple(range(20, 20 + 9 * place)),
            max_tokens=12 + 5 * place,
            sampling=sampling,
            top_logprobs=place % 3 if place % 2 else None,
        )
        for place, sampling in enumerate(settings)
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_sequence_gives_the_same_alone_and_in_any_batch(
    load: Load, backend_name: Backend, architecture: str
) -> None:
    backend = load(backend_name, architecture)
    sequences = mixed_sequences()
    alone = {s.uid: tokens(run(backend, [s])[s.uid]) for s in sequences}
    together = run(backend, sequences[:5], sequences[5:])
    assert {uid: tokens(outs) for uid, outs in together.items()} == alone
    assert [len(alone[s.uid]) for s in sequences] == [s.max_tokens for s in sequences]


# mlx-lm reads a Mistral's sliding window from `layer_types` alone, which such files lack.
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES.keys() - {"mistral"}))
def test_both_backends_give_the_same_tokens(load: Load, architecture: str) -> None:
    by_backend = [run(load(name, architecture), mixed_sequences()) for name in ("torch", "mlx")]
    first, second = [{uid: tokens(o) for uid, o in outs.items()} for outs in by_backend]
    assert first == second


def test_a_sequence_goes_on_from_what_it_had_generated(load: Load, backend_name: Backend) -> None:
    backend = load(backend_name)
    for sequence in mixed_sequences():
        whole = tokens(run(backend, [sequence])[sequence.uid])
        resumed = dataclasses.replace(sequence, generated=tuple(whole[:7]))
        assert tokens(run(backend, [resumed])[sequence.uid]) == whole[7:]


def test_a_removed_sequence_leaves_the_others_as_they_were(
    load: Load, backend_name: Backend
) -> None:
    backend = load(backend_name)
    sequences = mixed_sequences()
    expected = tokens(run(backend, [sequences[3]])[103])
    for sequence in sequences:
        backend.insert(sequence)
    got: list[int] = []
    for step in range(200):
        got += [out.token for out in backend.step() if out.uid == 103]
        if step == 2:
            backend.remove([101, 107])
        if step == 6:
            backend.remove([100, 102, 104, 105, 106])
    assert got == expected


def test_stop_ids_end_a_sequence(load: Load, backend_name: Backend) -> None:
    backend = load(backend_name)
    whole = tokens(run(backend, [Sequence(1, PROMPT, 40, GREEDY)])[1])
    stop = whole[11]
    outs = run(backend, [Sequence(1, PROMPT, 40, GREEDY, stop_ids=frozenset({stop}))])[1]
    assert tokens(outs) == whole[: whole.index(stop) + 1]
    assert outs[-1].finish == "stop"


def test_reset_empties_the_batch(load: Load, backend_name: Backend) -> None:
    backend = load(backend_name)
    for sequence in mixed_sequences():
        backend.insert(sequence)
    backend.step()
    backend.reset()
    assert backend.step() == []
    assert len(run(backend, [Sequence(1, PROMPT, 5, GREEDY)])[1]) == 5


def test_logprobs_are_those_of_the_distribution(load: Load, backend_name: Backend) -> None:
    backend = load(backend_name)
    outs = run(backend, [Sequence(1, PROMPT, 10, GREEDY, top_logprobs=5)])[1]
    for out in outs:
        assert out.logprob is not None
        assert out.logprob.id == out.token == out.logprob.top[0][0]
        values = [value for _, value in out.logprob.top]
        assert values == sorted(values, reverse=True)
        assert len(values) == 5
        assert sum(map(math.exp, values)) <= 1.0 + 1e-5


def test_scoring_agrees_with_generating(load: Load, backend_name: Backend) -> None:
    backend = load(backend_name)
    outs = run(backend, [Sequence(1, PROMPT, 40, GREEDY, top_logprobs=2)])[1]
    ids = PROMPT + tuple(tokens(outs))
    scored = [item for chunk in backend.score(ids, 2) for item in chunk]
    assert [item.id for item in scored] == list(ids[1:])
    for item, out in zip(scored[len(PROMPT) - 1 :], outs, strict=True):
        assert out.logprob is not None
        assert item.logprob == pytest.approx(out.logprob.logprob, abs=1e-3)


def test_a_bias_can_force_and_forbid_a_token(load: Load, backend_name: Backend) -> None:
    backend = load(backend_name)
    forced = Sequence(1, PROMPT, 5, Sampling(temperature=0.0, logit_bias={42: 100.0}))
    assert tokens(run(backend, [forced])[1]) == [42] * 5
    usual = tokens(run(backend, [Sequence(1, PROMPT, 1, GREEDY)])[1])[0]
    without = Sequence(1, PROMPT, 20, Sampling(temperature=0.0, logit_bias={usual: -100.0}))
    assert usual not in tokens(run(backend, [without])[1])


def test_sampling_follows_the_distribution(load: Load, backend_name: Backend) -> None:
    """First tokens of many seeds are as frequent as their probabilities say."""
    backend = load(backend_name)
    out = run(backend, [Sequence(1, PROMPT, 1, GREEDY, top_logprobs=1)])[1][0]
    assert out.logprob is not None
    probability = math.exp(out.logprob.logprob)
    draws = [
        tokens(run(backend, [Sequence(n, PROMPT, 1, Sampling(seed=n))])[n])[0] for n in range(200)
    ]
    share = draws.count(out.token) / len(draws)
    deviation = math.sqrt(probability * (1 - probability) / len(draws))
    assert abs(share - probability) < 5 * deviation


@pytest.mark.skipif(not STORIES.exists(), reason="the real checkpoint is not on this machine")
def test_a_real_checkpoint_gives_the_published_text(load: Load, backend_name: Backend) -> None:
    expected = json.loads((STORIES / "expected.json").read_text())
    backend = load(backend_name, STORIES / "hf")
    sequence = Sequence(1, tuple(expected["prompt_token_ids"]), 200, GREEDY)
    assert tokens(run(backend, [sequence])[1]) == expected["token_ids"]


def test_a_checkpoint_quantised_for_mlx_loads_on_mlx(
    folder_of: Callable[[str], Path], load: Load, tmp_path: Path
) -> None:
    folder = quantised(folder_of("qwen3"), tmp_path / "quantised")
    outs = run(load("mlx", folder), mixed_sequences())
    assert all(out.error is None for found in outs.values() for out in found)
    with pytest.raises(LoadError, match="--backend mlx"):
        load("torch", folder)


def quantised(source: Path, target: Path) -> Path:
    """The checkpoint as `mlx_lm.convert -q` writes it, 4 bits in groups of 32."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten
    from mlx_lm.utils import load_model

    shutil.copytree(source, target)
    model, config = load_model(source)
    nn.quantize(model, group_size=32, bits=4)
    mx.save_safetensors(str(target / "model.safetensors"), dict(tree_flatten(model.parameters())))
    config["quantization"] = {"group_size": 32, "bits": 4}
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_kept_state_gives_the_text_that_the_whole_prompt_gives(
    load: Load, backend_name: Backend, architecture: str
) -> None:
    backend = load(backend_name, architecture)
    first = Sequence(1, tuple(range(20, 70)), 20, GREEDY, keep=True)
    kept = run(backend, [first])[1][-1].kept
    assert kept is not None
    assert kept.tokens[:50] == first.prompt
    assert kept.nbytes > 0
    # The whole conversation so far, then a question; a beginning of it, then another.
    follows = [(*kept.tokens, 5, 6, 7), kept.tokens[:30] + tuple(range(100, 140))]
    for prompt, length in zip(follows, (len(kept.tokens), 30), strict=True):
        if length < len(kept.tokens) and not kept.can_be_cut:
            continue
        sequence = Sequence(2, prompt, 15, GREEDY, keep=True)
        expected = tokens(run(backend, [sequence])[2])
        for _ in range(2):  # what is kept is not used up, nor changed
            backend.insert(Sequence(3, PROMPT, 60, Sampling(seed=3)))
            backend.step()
            backend.insert(sequence, Prefix(kept.state, length))
            got: list[int] = []
            while len(got) < 15:
                got += [out.token for out in backend.step() if out.uid == 2]
            assert got == expected
            backend.remove([3])


def test_the_state_of_a_running_sequence_can_be_kept(load: Load, backend_name: Backend) -> None:
    backend = load(backend_name)
    backend.insert(Sequence(1, tuple(range(20, 70)), 40, GREEDY))
    assert backend.keep(1) is None
    made: list[int] = []
    while len(made) < 9:
        made += [out.token for out in backend.step()]
    kept = backend.keep(1)
    backend.remove([1])
    assert kept is not None
    assert kept.tokens == (*range(20, 70), *made)[: len(kept.tokens)]
    assert len(kept.tokens) >= 50


def test_a_short_prompt_is_not_kept_waiting_by_a_long_one(
    load: Load, backend_name: Backend
) -> None:
    backend = load(backend_name)
    long = Sequence(1, tuple(5 + n % 200 for n in range(400)), 20, GREEDY)
    short = Sequence(2, PROMPT, 20, GREEDY)
    alone = {s.uid: tokens(run(backend, [s])[s.uid]) for s in (long, short)}
    backend.insert(long)
    backend.step()
    backend.insert(short)
    together: dict[int, list[int]] = {1: [], 2: []}
    order: list[int] = []
    while len(order) < 40:
        outs = backend.step()
        order += [out.uid for out in outs]
        for out in outs:
            together[out.uid].append(out.token)
    assert order[0] == 2
    assert together == alone
