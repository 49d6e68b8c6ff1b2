"""LoRA adapters in one batch with their base, proven on both backends with the same files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlxsrv.backends.adapter import Adapter, LowRank
from mlxsrv.backends.adapter_files import read_adapter
from mlxsrv.backends.base import TextBackend
from mlxsrv.backends.select import Backend
from mlxsrv.core.errors import Conflict, InvalidRequest
from mlxsrv.core.text import Prefix, Sampling, Sequence
from tests.contract.test_text_backend import (
    GREEDY,
    PROMPT,
    Load,
    mixed_sequences,
    quantised,
    run,
    tokens,
)
from tests.tiny_adapters import Recipe, matrices, merge, write_mlx_lm, write_peft

pytestmark = pytest.mark.slow

RECIPES = {
    "one": Recipe(seed=1),
    "two": Recipe(rank=8, scale=0.5, targets=("q_proj", "v_proj"), seed=2),
    "three": Recipe(rank=4, scale=1.0, targets=("gate_proj", "down_proj", "lm_head"), seed=3),
    "four": Recipe(rank=1, scale=4.0, targets=("o_proj",), seed=4),
}
STORY = Sequence(1, PROMPT + tuple(range(20, 50)), 25, GREEDY)

FolderOf = Callable[[str], Path]


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of adapters of all kinds: ranks, layers, formats."""
    root = tmp_path_factory.mktemp("adapters")
    writers = {"one": write_peft, "two": write_mlx_lm, "three": write_peft, "four": write_mlx_lm}
    return {name: writers[name](root / name, recipe) for name, recipe in RECIPES.items()}


@pytest.fixture
def backend(load: Load, backend_name: Backend, adapters: dict[str, Path]) -> Iterator[TextBackend]:
    """With all adapters; the base alone afterwards."""
    backend = load(backend_name)
    for name, folder in adapters.items():
        backend.add_adapter(name, read_adapter(folder))
    yield backend
    backend.reset()
    for name in adapters:
        backend.remove_adapter(name)


def story(backend: TextBackend, adapter: str | None = None) -> list[int]:
    return tokens(run(backend, [replace(STORY, adapter=adapter)])[STORY.uid])


def with_adapters(sequences: list[Sequence]) -> list[Sequence]:
    """Each with another adapter, some with none."""
    names = [None, *RECIPES]
    return [
        replace(sequence, adapter=names[place % len(names)])
        for place, sequence in enumerate(sequences)
    ]


@pytest.mark.parametrize("name", RECIPES)
def test_an_adapter_gives_the_text_of_merged_weights(
    name: str,
    load: Load,
    backend: TextBackend,
    backend_name: Backend,
    folder_of: FolderOf,
    tmp_path: Path,
) -> None:
    recipe = RECIPES[name]
    folder = merge(folder_of("qwen3"), tmp_path / "merged", matrices(recipe), recipe.scale)
    expected = tokens(run(load(backend_name, folder), [STORY])[STORY.uid])
    assert story(backend, name) == expected
    assert story(backend) != expected


def test_adapters_and_base_share_a_batch(backend: TextBackend) -> None:
    sequences = with_adapters(mixed_sequences())
    alone = {s.uid: tokens(run(backend, [s])[s.uid]) for s in sequences}
    together = run(backend, sequences[:5], sequences[5:])
    assert {uid: tokens(outs) for uid, outs in together.items()} == alone
    base = {s.uid: tokens(run(backend, [replace(s, adapter=None)])[s.uid]) for s in sequences}
    assert [uid for uid in base if base[uid] == alone[uid]] == [
        s.uid for s in sequences if s.adapter is None
    ]


def test_rows_that_leave_take_nobody_elses_adapter(backend: TextBackend) -> None:
    sequences = with_adapters(mixed_sequences())
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


def test_adapters_come_and_go_while_others_are_used(
    backend: TextBackend, adapters: dict[str, Path]
) -> None:
    names = (None, "one", "three")
    sequences = [replace(STORY, uid=uid, adapter=name) for uid, name in enumerate(names)]
    alone = [tokens(run(backend, [s])[s.uid]) for s in sequences]
    late = replace(STORY, uid=9, adapter="two")
    late_alone = tokens(run(backend, [late])[9])
    for sequence in sequences:
        backend.insert(sequence)
    made: dict[int, list[int]] = {0: [], 1: [], 2: [], 9: []}
    for step in range(40):
        if step == 6:
            backend.remove_adapter("two")
        if step == 12:
            backend.remove_adapter("four")
            backend.add_adapter("two", read_adapter(adapters["two"]))
            backend.insert(late)
        if step == 20:
            backend.add_adapter("four", read_adapter(adapters["four"]))
        for out in backend.step():
            made[out.uid].append(out.token)
    while len(made[9]) < late.max_tokens:
        made[9] += [out.token for out in backend.step()]
    assert [made[uid] for uid in range(3)] == alone
    assert made[9] == late_alone


def test_the_base_is_what_it_was_when_all_adapters_are_gone(
    load: Load, backend_name: Backend, adapters: dict[str, Path]
) -> None:
    backend = load(backend_name)
    before = run(backend, mixed_sequences())
    for name, folder in adapters.items():
        backend.add_adapter(name, read_adapter(folder))
    for name in adapters:
        story(backend, name)
        backend.remove_adapter(name)
    assert run(backend, mixed_sequences()) == before
    with pytest.raises(InvalidRequest, match="no adapter one"):
        backend.insert(replace(STORY, adapter="one"))


def test_the_others_are_what_they_were_when_one_is_gone(
    backend: TextBackend, adapters: dict[str, Path]
) -> None:
    before = {name: story(backend, name) for name in adapters}
    for gone, folder in adapters.items():
        backend.remove_adapter(gone)
        left = [name for name in adapters if name != gone]
        made = run(backend, [replace(STORY, uid=n, adapter=name) for n, name in enumerate(left)])
        assert [tokens(made[n]) for n in range(3)] == [before[name] for name in left]
        backend.add_adapter(gone, read_adapter(folder))
        assert story(backend, gone) == before[gone]


def test_a_name_can_be_given_to_other_weights(
    backend: TextBackend, adapters: dict[str, Path]
) -> None:
    as_one, as_two = story(backend, "one"), story(backend, "two")
    backend.remove_adapter("one")
    backend.add_adapter("one", read_adapter(adapters["two"]))
    assert story(backend, "one") == as_two != as_one


def test_the_strength_can_be_set(backend: TextBackend, adapters: dict[str, Path]) -> None:
    backend.add_adapter("none", read_adapter(adapters["one"], scale=0.0))
    backend.add_adapter("half", read_adapter(adapters["one"], scale=0.5))
    assert story(backend, "none") == story(backend)
    assert story(backend, "half") not in (story(backend), story(backend, "one"))
    for name in ("none", "half"):
        backend.remove_adapter(name)


def test_scoring_uses_the_adapter_and_others_theirs(backend: TextBackend) -> None:
    other = replace(STORY, uid=2, adapter="three")
    alone = tokens(run(backend, [other])[2])
    for name in (None, "one", "two"):
        sequence = replace(STORY, adapter=name, top_logprobs=2)
        outs = run(backend, [sequence])[STORY.uid]
        ids = STORY.prompt + tuple(tokens(outs))
        backend.insert(other)
        scored, made = [], []
        for chunk in backend.score(ids, 2, name):
            scored += chunk
            made += [out.token for out in backend.step()]
        backend.remove([2])
        assert made == alone[: len(made)]
        for item, out in zip(scored[len(STORY.prompt) - 1 :], outs, strict=True):
            assert out.logprob is not None
            assert item.logprob == pytest.approx(out.logprob.logprob, abs=1e-3)


def test_a_kept_state_says_its_adapter(backend: TextBackend) -> None:
    for name in (None, "one"):
        sequence = replace(STORY, adapter=name, keep=True)
        kept = run(backend, [sequence])[STORY.uid][-1].kept
        assert kept is not None
        assert kept.adapter == name
        assert kept.arrays == 4  # keys and values of two layers
        following = Sequence(2, (*kept.tokens, 5, 6, 7), 15, GREEDY, adapter=name)
        expected = tokens(run(backend, [following])[2])
        backend.insert(following, Prefix(kept.state, len(kept.tokens)))
        got: list[int] = []
        while len(got) < 15:
            got += [out.token for out in backend.step()]
        assert got == expected


def test_what_is_not_there_or_in_use_is_said(backend: TextBackend) -> None:
    with pytest.raises(InvalidRequest, match="no adapter five"):
        backend.insert(replace(STORY, adapter="five"))
    with pytest.raises(InvalidRequest, match="no adapter five"):
        next(backend.score(PROMPT, 0, "five"))
    for steps in (0, 1, 5):  # waiting, in prefill, decoding
        backend.insert(replace(STORY, adapter="one"))
        for _ in range(steps):
            backend.step()
        with pytest.raises(Conflict, match="one is in use"):
            backend.remove_adapter("one")
        backend.remove([STORY.uid])


def misfits(adapter: Adapter) -> dict[str, Adapter]:
    path = "model.layers.0.mlp.down_proj"
    layer = adapter.layers[path]
    thin = LowRank(layer.a[:, :-1], layer.b, layer.scale)
    return {
        "model.layers.7.mlp.up_proj is not a linear layer": replace(
            adapter, layers={**adapter.layers, "model.layers.7.mlp.up_proj": layer}
        ),
        "model.embed_tokens is not a linear layer": replace(
            adapter, layers={**adapter.layers, "model.embed_tokens": layer}
        ),
        f"{path} has 63 inputs and 32 outputs in the adapter, 64 inputs and 32 outputs": replace(
            adapter, layers={**adapter.layers, path: thin}
        ),
    }


def test_an_adapter_of_another_base_changes_nothing(
    backend: TextBackend, adapters: dict[str, Path]
) -> None:
    before = {name: story(backend, name) for name in (None, *adapters)}
    for message, adapter in misfits(read_adapter(adapters["one"])).items():
        with pytest.raises(InvalidRequest, match="made for another base") as caught:
            backend.add_adapter("wrong", adapter)
        assert message in caught.value.message
        assert caught.value.param == "lora_path"
        with pytest.raises(InvalidRequest):
            backend.insert(replace(STORY, adapter="wrong"))
    with pytest.raises(InvalidRequest, match="one already"):
        backend.add_adapter("one", read_adapter(adapters["two"]))
    assert {name: story(backend, name) for name in (None, *adapters)} == before


def test_an_overflow_under_one_adapter_reaches_no_other_row(
    backend: TextBackend, adapters: dict[str, Path]
) -> None:
    sane = read_adapter(adapters["one"])
    huge = {
        path: LowRank(np.full_like(layer.a, 3e38), np.full_like(layer.b, 3e38), 1.0)
        for path, layer in sane.layers.items()
    }
    sequences = [replace(STORY, uid=n, adapter=name) for n, name in enumerate((None, "one"))]
    alone = run(backend, sequences)
    backend.add_adapter("huge", replace(sane, layers=huge))
    together = run(backend, [*sequences, replace(STORY, uid=2, adapter="huge")])
    backend.remove_adapter("huge")
    assert [tokens(together[n]) for n in (0, 1)] == [tokens(alone[n]) for n in (0, 1)]


def test_a_seed_draws_the_same_in_any_company(backend: TextBackend) -> None:
    seeded = replace(STORY, sampling=Sampling(seed=11), adapter="one")
    alone = tokens(run(backend, [seeded])[STORY.uid])
    others = [replace(s, adapter="three") for s in mixed_sequences()]
    assert tokens(run(backend, [*others, seeded])[STORY.uid]) == alone


def test_mlx_lm_gives_the_same_with_its_own_adapters(
    load: Load, folder_of: FolderOf, adapters: dict[str, Path], tmp_path: Path
) -> None:
    quantised_base = quantised(folder_of("qwen3"), tmp_path / "quantised")
    for base in (folder_of("qwen3"), quantised_base):
        backend = load("mlx", base)
        for name in ("two", "four"):
            backend.add_adapter(name, read_adapter(adapters[name]))
            assert story(backend, name) == of_mlx_lm(base, adapters[name])
            assert story(backend, name) != story(backend)
            mixed = [replace(STORY, uid=2), replace(STORY, uid=3, adapter=name)]
            assert tokens(run(backend, mixed)[3]) == of_mlx_lm(base, adapters[name])
            backend.remove_adapter(name)


def of_mlx_lm(base: Path, adapter: Path) -> list[int]:
    """What mlx-lm generates with an adapter that it loads itself."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model

    model, _ = load_model(base)
    load_adapters(model, str(adapter))
    model.eval()
    steps = generate_step(mx.array(STORY.prompt), model, max_tokens=STORY.max_tokens)
    return [int(token) for token, _ in steps]
