"""Pictures, on both backends by the same tests."""

from __future__ import annotations

import json
import math
import shutil
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlxsrv.backends import checkpoint
from mlxsrv.backends.adapter import Adapter, LowRank
from mlxsrv.backends.base import ImageBackend
from mlxsrv.backends.builtin import builtin_folder
from mlxsrv.backends.image_options import ImageOptions
from mlxsrv.backends.load import finished, free, load_image
from mlxsrv.backends.select import Backend
from mlxsrv.core.errors import InvalidRequest, LoadError, Unsupported
from mlxsrv.core.image import Drawing, DrawingStep, Pixels
from scripts.demo_image import evaluate
from scripts.demo_image.judge import judge
from tests import tiny_images

pytestmark = pytest.mark.usefixtures("mlx_thread")

DEV = {"guidance": True, "dynamic_shift": True}
KINDS: dict[str, dict[str, Any]] = {
    "schnell": {},
    "dev": DEV,
    "kontext": {**DEV, "pipeline": "FluxKontextPipeline"},
    "fill": {**DEV, "pipeline": "FluxFillPipeline"},
}
HELD_OUT = Path(__file__).parent.parent / "data" / "demo_image_heldout.jsonl"
TAEF1 = Path(__file__).parents[3] / "shared/data/taef1/taef1_decoder.safetensors"
ALIKE = 40.0
"""Decibels between the same picture on two backends."""

Paint = Callable[..., ImageBackend]


@pytest.fixture(scope="module")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny checkpoint of some kind, built once."""
    root = tmp_path_factory.mktemp("images")

    def folder(kind: str) -> Path:
        path = root / kind
        return path if path.exists() else tiny_images.write_flux(path, **KINDS[kind])

    return folder


@pytest.fixture(scope="module")
def painter(flux_folder: Callable[[str], Path]) -> Iterator[Paint]:
    """Loads a checkpoint on a backend, once each."""
    loaded: dict[tuple[str, str], ImageBackend] = {}

    def get(backend: Backend, kind: str = "schnell") -> ImageBackend:
        if (backend, kind) not in loaded:
            loaded[backend, kind] = open_image(backend, flux_folder(kind))
        return loaded[backend, kind]

    yield get
    for backend in loaded.values():
        backend.close()


def open_image(backend: Backend, folder: Path, **options: Any) -> ImageBackend:
    return finished(load_image(backend, checkpoint.read(folder), ImageOptions(**options)))


def drawing(**asked: Any) -> Drawing:
    fields = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 3, "seed": 5}
    return Drawing(**{**fields, "guidance": 3.5, **asked})


def steps_of(backend: ImageBackend, asked: Drawing) -> list[DrawingStep]:
    return [step for step in backend.draw(asked) if step is not None]


def drawn(backend: ImageBackend, asked: Drawing) -> Pixels:
    picture = steps_of(backend, asked)[-1].picture
    assert picture is not None
    assert picture.shape == (asked.height, asked.width, 3)
    assert picture.dtype == np.uint8
    return picture


def together(backend: ImageBackend, asked: list[Drawing]) -> list[Pixels]:
    """Drawn in turns, a slice each."""
    pictures: dict[int, Pixels] = {}
    under_way = dict(enumerate(backend.draw(one) for one in asked))
    while under_way:
        for place, one in list(under_way.items()):
            step = next(one, "end")
            if isinstance(step, str):
                del under_way[place]
            elif step is not None and step.picture is not None:
                pictures[place] = step.picture
    return [picture for _, picture in sorted(pictures.items())]


def decibels(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Peak signal to noise."""
    error = float(np.mean((one.astype(float) - other.astype(float)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def same(one: Pixels, other: Pixels) -> bool:
    return bool(np.array_equal(one, other))


def photo(width: int = 64, height: int = 64, seed: int = 1) -> Pixels:
    """Smooth colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 16, width // 16, 3))
    pixels: Pixels = coarse.repeat(16, axis=0).repeat(16, axis=1).astype(np.uint8)
    return pixels


def left_half(width: int = 64, height: int = 64) -> NDArray[np.float32]:
    mask = np.zeros((height, width), np.float32)
    mask[:, : width // 2] = 1
    return mask


# What a model is


def test_a_model_says_what_it_can_do(backend_name: Backend, painter: Paint) -> None:
    fast = painter(backend_name, "schnell")
    assert (fast.image.width, fast.image.height, fast.image.multiple) == (64, 64, 16)
    assert (fast.image.steps, fast.image.guidance) == (4, None)
    assert (fast.image.inputs, fast.image.references, fast.image.masks) == (1, False, True)
    assert not fast.image.negative_prompt
    assert (fast.facts.backend, fast.facts.dtype) == (backend_name, "float32")
    slow = painter(backend_name, "dev")
    assert (slow.image.steps, slow.image.guidance) == (28, 3.5)
    looking = painter(backend_name, "kontext").image
    assert (looking.inputs, looking.references, looking.masks) == (1, True, False)
    filling = painter(backend_name, "fill").image
    assert (filling.inputs, filling.references, filling.masks) == (1, False, True)


# The same picture on both


@pytest.mark.parametrize("kind", ["schnell", "dev"])
@pytest.mark.parametrize(
    "asked",
    [
        drawing(),
        drawing(width=96, height=64, seed=-1, prompt="Ein grünes Dreieck, 漢字 🙂"),
        drawing(steps=1, prompt=""),
        drawing(prompt="a very long story " * 60, steps=2),
        drawing(width=32, height=128, steps=10),
        drawing(images=(photo(),), strength=0.7),
        drawing(images=(photo(),), strength=0.5, mask=left_half(), steps=6),
    ],
    ids=["plain", "wide", "one step", "long", "tall", "begun", "masked"],
)
def test_both_backends_draw_the_same_picture(kind: str, asked: Drawing, painter: Paint) -> None:
    pictures = [drawn(painter(backend, kind), asked) for backend in ("torch", "mlx")]
    assert decibels(*pictures) > ALIKE
    assert pictures[0].std() > 20


def test_both_backends_look_at_the_same_reference(painter: Paint) -> None:
    for picture in (photo(), photo(128, 80)[:70, :100]):
        asked = drawing(images=(picture,))
        pictures = [drawn(painter(backend, "kontext"), asked) for backend in ("torch", "mlx")]
        assert decibels(*pictures) > ALIKE
    assert decibels(pictures[1], drawn(painter("mlx", "kontext"), drawing())) < ALIKE


def test_a_model_that_fills_takes_a_picture_and_a_mask(
    backend_name: Backend, painter: Paint
) -> None:
    filler = painter(backend_name, "fill")
    asked = drawing(images=(photo(),), mask=left_half())
    assert same(drawn(filler, asked), drawn(filler, asked))
    other = replace(asked, images=(photo(seed=2),))
    assert not same(drawn(filler, asked), drawn(filler, other))
    elsewhere = replace(asked, mask=1 - left_half())
    assert not same(drawn(filler, asked), drawn(filler, elsewhere))
    for lacking in (drawing(), drawing(images=(photo(),))):
        with pytest.raises(InvalidRequest, match="mask"):
            drawn(filler, lacking)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_full_on_the_cpu(half: str, tmp_path: Path) -> None:
    folder = tiny_images.write_flux(tmp_path / half, dtype=half)
    backends = [open_image("torch", folder), open_image("mlx", folder)]
    pictures = [drawn(backend, drawing()) for backend in backends]
    assert [backend.facts.dtype for backend in backends] == ["float32", "float32"]
    assert decibels(*pictures) > ALIKE


def test_weights_in_several_files_are_all_read(
    backend_name: Backend, painter: Paint, tmp_path: Path
) -> None:
    folder = tiny_images.write_flux(tmp_path / "sharded", shard="100KB")
    assert len(list((folder / "transformer").glob("*.safetensors"))) > 2
    sharded = open_image(backend_name, folder)
    assert same(drawn(sharded, drawing()), drawn(painter(backend_name), drawing()))


# Repeating


@pytest.mark.parametrize("kind", ["schnell", "dev"])
def test_a_drawing_repeats_whatever_runs_beside_it(
    kind: str, backend_name: Backend, painter: Paint
) -> None:
    backend = painter(backend_name, kind)
    asked = [
        drawing(),
        drawing(seed=6, width=96, steps=5, prompt="a blue square", images=(photo(96),)),
    ]
    alone = [drawn(backend, one) for one in asked]
    beside = together(backend, asked)
    assert all(same(*pair) for pair in zip(alone, beside, strict=True))
    assert same(drawn(backend, asked[0]), alone[0])


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 6},
        {"prompt": "a blue square"},
        {"steps": 4},
        {"images": (photo(),)},
        {"images": (photo(),), "strength": 0.4},
        {"images": (photo(),), "mask": left_half()},
    ],
    ids=" ".join,
)
def test_whatever_is_asked_shows(
    change: dict[str, Any], backend_name: Backend, painter: Paint
) -> None:
    backend = painter(backend_name)
    asked = drawing(steps=3)
    assert decibels(drawn(backend, asked), drawn(backend, replace(asked, **change))) < ALIKE


def test_guidance_is_heeded_by_a_model_that_has_it(backend_name: Backend, painter: Paint) -> None:
    few, many = drawing(guidance=1.0), drawing(guidance=8.0)
    guided, unguided = painter(backend_name, "dev"), painter(backend_name, "schnell")
    assert not same(drawn(guided, few), drawn(guided, many))
    assert same(drawn(unguided, few), drawn(unguided, many))


# Steps


def test_every_step_is_told_and_the_picture_comes_last(
    backend_name: Backend, painter: Paint
) -> None:
    told = steps_of(painter(backend_name), drawing(steps=5))
    assert [step.done for step in told] == [1, 2, 3, 4, 5, 5]
    assert {step.steps for step in told} == {5}
    assert [step.picture is not None for step in told] == [False] * 5 + [True]
    assert all(step.preview is None for step in told)


def test_a_picture_to_begin_with_leaves_fewer_steps(backend_name: Backend, painter: Paint) -> None:
    backend = painter(backend_name)
    begun = drawing(steps=10, images=(photo(),), strength=0.3)
    told = steps_of(backend, begun)
    assert (told[-1].done, told[-1].steps) == (3, 3)
    nothing = steps_of(backend, replace(begun, strength=0.0))
    assert len(nothing) == 1
    assert nothing[0].picture is not None
    assert same(nothing[0].picture, photo())


def test_with_full_strength_nothing_is_left_of_a_picture(
    backend_name: Backend, painter: Paint
) -> None:
    backend = painter(backend_name)
    asked = drawing(steps=4, images=(photo(),))
    pictures = [
        drawn(backend, replace(asked, strength=strength)) for strength in (0.2, 0.5, 0.99, 1.0)
    ]
    assert len({picture.tobytes() for picture in pictures}) == 4
    assert same(pictures[-1], drawn(backend, replace(asked, images=())))


def test_a_mask_leaves_the_rest_as_the_autoencoder_has_it(
    backend_name: Backend, painter: Paint
) -> None:
    backend = painter(backend_name)
    asked = drawing(steps=6, images=(photo(),), mask=left_half(), strength=1.0)
    masked = drawn(backend, asked)
    everything = drawn(backend, replace(asked, mask=np.ones((64, 64), np.float32)))
    nothing = drawn(backend, replace(asked, mask=np.zeros((64, 64), np.float32)))
    # The autoencoder mixes a little over the edge.
    assert decibels(masked[:, 48:], nothing[:, 48:]) > decibels(masked[:, 48:], everything[:, 48:])
    assert decibels(masked[:, :16], everything[:, :16]) > decibels(masked[:, :16], nothing[:, :16])


def test_previews_come_as_often_as_asked(backend_name: Backend, painter: Paint) -> None:
    backend = painter(backend_name)
    told = steps_of(backend, drawing(steps=8, previews=3))
    previews = [step.preview for step in told if step.preview is not None]
    assert [step.done for step in told if step.preview is not None] == [2, 4, 6]
    assert all(preview.shape == (8, 8, 3) for preview in previews)
    assert len({preview.tobytes() for preview in previews}) == 3
    picture = told[-1].picture
    assert picture is not None
    assert same(picture, drawn(backend, drawing(steps=8)))


def test_both_backends_guess_the_same_preview(painter: Paint) -> None:
    guesses = []
    for backend in ("torch", "mlx"):
        told = steps_of(painter(backend), drawing(steps=4, previews=1))
        guesses += [step.preview for step in told if step.preview is not None]
    assert len(guesses) == 2
    assert decibels(guesses[0], guesses[1]) > ALIKE


def test_slices_are_as_short_as_asked(backend_name: Backend, flux_folder: Any) -> None:
    quick = open_image(backend_name, flux_folder("schnell"), slice_seconds=0.0)
    slices = list(quick.draw(drawing(steps=2, images=(photo(),))))
    # Encoders, two steps of three blocks, and the autoencoder both ways.
    assert sum(one is None for one in slices) > 12
    slow = open_image(backend_name, flux_folder("schnell"), slice_seconds=60.0)
    few = list(slow.draw(drawing(steps=2, images=(photo(),))))
    assert sum(one is None for one in few) <= 2
    one, other = (found[-1] for found in (slices, few))
    assert one is not None
    assert other is not None
    assert one.picture is not None
    assert other.picture is not None
    assert same(one.picture, other.picture)


def test_a_drawing_that_is_given_up_leaves_the_others_alone(
    backend_name: Backend, painter: Paint
) -> None:
    backend = painter(backend_name)
    expected = drawn(backend, drawing())
    given_up, kept = backend.draw(drawing(seed=9, steps=20)), backend.draw(drawing())
    for one in (given_up, kept):
        next(step for step in one if step is not None)
    given_up.close()  # type: ignore[attr-defined]
    last = list(kept)[-1]
    assert last is not None
    assert last.picture is not None
    assert same(last.picture, expected)


# What can't be


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"width": 0}, "size"),
        ({"height": 72}, "size"),
        ({"width": -16}, "size"),
        ({"steps": 0}, "steps"),
        ({"images": (photo(), photo())}, "image"),
        ({"images": (photo(32),)}, "image"),
        ({"mask": left_half()}, "image"),
        ({"images": (photo(),), "mask": left_half(32)}, "mask"),
        ({"adapter": "nobody"}, "model"),
        ({"negative_prompt": "ugly"}, "negative_prompt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else value,
)
def test_what_a_model_cannot_do_is_refused(
    wrong: dict[str, Any], param: str, backend_name: Backend, painter: Paint
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        drawn(painter(backend_name), drawing(**wrong))
    assert refusal.value.param == param


def test_a_model_that_looks_at_pictures_masks_none(backend_name: Backend, painter: Paint) -> None:
    with pytest.raises(Unsupported) as refusal:
        drawn(painter(backend_name, "kontext"), drawing(images=(photo(),), mask=left_half()))
    assert refusal.value.param == "mask"


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "text_encoder_2"])
@pytest.mark.parametrize("damage", ["missing", "shape"])
def test_damaged_weights_are_a_load_error(
    part: str, damage: str, backend_name: Backend, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    folder = tiny_images.write_flux(tmp_path / "damaged")
    file = next((folder / part).glob("*.safetensors"))
    tensors = load_file(file)
    name = next(name for name, tensor in tensors.items() if name.endswith(".weight"))
    tensor = tensors.pop(name)
    if damage == "shape":
        tensors[name] = np.concatenate([tensor, tensor])
    save_file(tensors, file)
    with pytest.raises(LoadError):
        open_image(backend_name, folder)


@pytest.mark.parametrize("part", ["transformer", "scheduler", "tokenizer_2", "text_encoder"])
def test_a_part_that_is_not_there_is_named(
    part: str, backend_name: Backend, tmp_path: Path
) -> None:
    folder = tiny_images.write_flux(tmp_path / "partial")
    (folder / part).rename(tmp_path / part)
    with pytest.raises(LoadError, match=part):
        open_image(backend_name, folder)


def test_parts_that_do_not_fit_each_other_are_refused(
    flux_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    for part, key, value in (
        ("text_encoder_2", "vocab_size", 20),
        ("text_encoder", "hidden_size", 64),
        ("text_encoder_2", "d_model", 64),
        ("vae", "latent_channels", 4),
        ("transformer", "patch_size", 2),
        ("vae", "act_fn", "relu"),
        ("text_encoder", "hidden_act", "gelu_odd"),
    ):
        folder = shutil.copytree(flux_folder("schnell"), tmp_path / f"{part}-{key}")
        config = json.loads((folder / part / "config.json").read_text("utf-8"))
        config[key] = value
        (folder / part / "config.json").write_text(json.dumps(config), "utf-8")
        with pytest.raises(LoadError):
            open_image("mlx", folder)


def test_other_pipelines_are_named(backend_name: Backend, flux_folder: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(flux_folder("schnell"), tmp_path / "other")
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    index["_class_name"] = "StableDiffusionPipeline"
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(LoadError, match="StableDiffusionPipeline"):
        open_image(backend_name, folder)


# Adapters


def adapter_for(width: int = 64, strength: float = 0.5) -> Adapter:
    rng = np.random.default_rng(3)

    def layer(inputs: int, outputs: int) -> LowRank:
        a = rng.standard_normal((4, inputs)).astype(np.float32) * inputs**-0.5
        return LowRank(a, rng.standard_normal((outputs, 4)).astype(np.float32), strength)

    paths = ("transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_out.0")
    single = "single_transformer_blocks.1"
    layers = {path: layer(width, width) for path in paths}
    layers["transformer_blocks.0.ff.net.2"] = layer(4 * width, width)
    layers["norm_out.linear"] = layer(width, 2 * width)
    layers["proj_out"] = layer(width, 64)
    layers[f"{single}.attn.to_v"] = layer(width, width)
    layers[f"{single}.proj_mlp"] = layer(width, 4 * width)
    return Adapter(Path("adapter"), layers)


def test_an_adapter_changes_only_the_drawings_that_name_it(
    backend_name: Backend, painter: Paint
) -> None:
    backend = painter(backend_name)
    plain = drawn(backend, drawing())
    backend.add_adapter("style", adapter_for())
    try:
        assert backend.working_bytes(drawing(adapter="style")) > 0
        styled = drawn(backend, drawing(adapter="style"))
        assert decibels(plain, styled) < ALIKE
        both = together(backend, [drawing(), drawing(adapter="style")])
        assert same(both[0], plain)
        assert same(both[1], styled)
    finally:
        backend.remove_adapter("style")
    assert same(drawn(backend, drawing()), plain)
    with pytest.raises(InvalidRequest, match="style"):
        drawn(backend, drawing(adapter="style"))


def test_an_adapter_does_the_same_on_both_backends(painter: Paint) -> None:
    pictures = []
    for name in ("torch", "mlx"):
        backend = painter(name)
        backend.add_adapter("style", adapter_for())
        pictures.append(drawn(backend, drawing(adapter="style")))
        backend.remove_adapter("style")
    assert decibels(*pictures) > ALIKE


def test_an_adapter_for_another_model_is_refused(backend_name: Backend, painter: Paint) -> None:
    backend = painter(backend_name)
    plain = drawn(backend, drawing())
    with pytest.raises(InvalidRequest, match="another base model"):
        backend.add_adapter("wide", adapter_for(width=96))
    assert same(drawn(backend, drawing()), plain)


# Memory


def test_text_encoders_may_stay_out_of_memory(
    backend_name: Backend, painter: Paint, flux_folder: Any
) -> None:
    staged = open_image(backend_name, flux_folder("schnell"), staged=True)
    whole = painter(backend_name)
    assert staged.facts.memory_bytes < whole.facts.memory_bytes
    asked = [drawing(seed=seed, prompt=prompt) for seed, prompt in ((1, "a"), (2, "b"))]
    expected = [drawn(whole, one) for one in asked]
    for found in (together(staged, asked), [drawn(staged, one) for one in asked]):
        assert all(same(*pair) for pair in zip(found, expected, strict=True))
    staged.close()


def test_staged_encoders_are_gone_once_they_have_read(painter: Paint, flux_folder: Any) -> None:
    import mlx.core as mx

    staged = open_image("mlx", flux_folder("schnell"), staged=True)
    encoders = painter("mlx").facts.memory_bytes - staged.facts.memory_bytes
    before = mx.get_active_memory()
    given_up = staged.draw(drawing(prompt="c"))
    next(given_up)
    given_up.close()  # type: ignore[attr-defined]
    drawn(staged, drawing(prompt="d"))
    assert mx.get_active_memory() - before < encoders / 2
    assert staged.working_bytes(drawing()) > encoders
    staged.close()


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_may_be_packed_as_they_are_loaded(
    bits: int, painter: Paint, flux_folder: Any
) -> None:
    plain, packed = painter("mlx"), open_image("mlx", flux_folder("schnell"), quantize=bits)
    assert packed.facts.memory_bytes < plain.facts.memory_bytes * 0.8
    likeness = decibels(drawn(plain, drawing()), drawn(packed, drawing()))
    assert likeness > {4: 15, 8: 30}[bits]
    packed.add_adapter("style", adapter_for())
    assert not same(drawn(packed, drawing()), drawn(packed, drawing(adapter="style")))
    packed.close()


def test_a_folder_that_mlx_packed_is_read(flux_folder: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(flux_folder("dev"), tmp_path / "packed")
    for part in ("transformer", "text_encoder_2"):
        pack(folder / part)
    stored, loaded = (
        open_image("mlx", folder),
        open_image("mlx", flux_folder("dev"), quantize=4),
    )
    assert stored.facts.memory_bytes == loaded.facts.memory_bytes
    assert same(drawn(stored, drawing()), drawn(loaded, drawing()))
    with pytest.raises(LoadError, match="quantised for MLX"):
        open_image("torch", folder)


def pack(part: Path) -> None:
    """As mlx-lm packs language models: every matrix of a linear layer that can be."""
    import mlx.core as mx

    file = next(part.glob("*.safetensors"))
    tensors: dict[str, Any] = mx.load(str(file))
    for name in [name for name, tensor in tensors.items() if tensor.ndim == 2]:
        path = name.removesuffix(".weight")
        if tensors[name].shape[1] % 64 == 0:
            packed = mx.quantize(tensors.pop(name), group_size=64, bits=4)
            tensors |= dict(zip((name, f"{path}.scales", f"{path}.biases"), packed, strict=True))
    mx.save_safetensors(str(file), tensors)
    config = json.loads((part / "config.json").read_text("utf-8"))
    config["quantization"] = {"group_size": 64, "bits": 4}
    (part / "config.json").write_text(json.dumps(config), "utf-8")


def test_a_model_that_went_leaves_no_memory_behind(flux_folder: Any) -> None:
    import mlx.core as mx

    def cycle() -> int:
        backend = open_image("mlx", flux_folder("schnell"))
        given_up = backend.draw(drawing(previews=1))
        next(given_up)
        given_up.close()  # type: ignore[attr-defined]
        drawn(backend, drawing(previews=1))
        backend.close()
        del backend, given_up
        free("mlx")
        return int(mx.get_active_memory())

    first, *_, last = [cycle() for _ in range(4)]
    assert last - first < 50_000


def test_a_torch_model_that_went_is_collected(flux_folder: Any) -> None:
    backend = open_image("torch", flux_folder("schnell"))
    given_up = backend.draw(drawing())
    next(given_up)
    given_up.close()  # type: ignore[attr-defined]
    drawn(backend, drawing())
    gone = weakref.ref(backend)
    backend.close()
    del backend, given_up
    free("torch")
    assert gone() is None


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (512, 256)], ids=str)
def test_what_a_drawing_takes_is_known_beforehand(size: tuple[int, int], painter: Paint) -> None:
    import mlx.core as mx

    width, height = size
    backend = painter("mlx")
    asked = drawing(width=width, height=height, steps=1, prompt=f"at {size}")
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    drawn(backend, asked)
    taken = mx.get_peak_memory() - before
    assert taken < backend.working_bytes(asked) < 4 * taken


# The demo model


@pytest.mark.slow
def test_the_demo_model_draws_what_is_asked(backend_name: Backend) -> None:
    folder = builtin_folder("demo-image")
    if folder is None:
        pytest.skip("models/demo-image is not there")
    backend = open_image(backend_name, folder)
    items = [item for item in evaluate.read_items(HELD_OUT) if item.kind == "plain"]
    assert len(items) >= 40
    facts = backend.image
    right = 0
    for seed, item in enumerate(items):
        asked = drawing(
            prompt=item.prompt,
            width=facts.width,
            height=facts.height,
            steps=facts.steps,
            seed=seed,
            guidance=facts.guidance,
        )
        right += not judge(drawn(backend, asked), item.scene)
    backend.close()
    assert right >= 0.9 * len(items)


def test_a_preview_of_the_demo_model_looks_like_its_picture(backend_name: Backend) -> None:
    folder = builtin_folder("demo-image")
    if folder is None:
        pytest.skip("models/demo-image is not there")
    backend = open_image(backend_name, folder)
    asked = drawing(prompt="a red circle on a blue background", width=128, height=128, steps=4)
    told = steps_of(backend, replace(asked, previews=1))
    preview = next(step.preview for step in told if step.preview is not None)
    picture = told[-1].picture
    assert picture is not None
    rows, columns, _ = preview.shape
    cells = picture.reshape(rows, 128 // rows, columns, 128 // columns, 3).mean(axis=(1, 3))
    assert np.corrcoef(preview.ravel(), cells.ravel())[0, 1] > 0.8
    backend.close()


GPU_CODE = ("activations", "attention", "convolution", "encoder_weights", "taef1", "vae")


@pytest.mark.slow
@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
def test_half_precision_as_on_a_gpu_is_near(
    stored: str, painter: Paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is computed otherwise there, on the CPU."""
    folder = tiny_images.write_flux(tmp_path / stored, dtype=stored)
    for module in GPU_CODE:
        monkeypatch.setattr(f"mlxsrv.backends.mlx.{module}.on_cpu", lambda: False)
    backend = open_image("mlx", folder)
    assert stored in backend.facts.dtype
    assert backend.facts.memory_bytes < painter("mlx").facts.memory_bytes
    asked = drawing(images=(photo(),), mask=left_half(), previews=1)
    told = steps_of(backend, asked)
    picture = told[-1].picture
    assert picture is not None
    assert decibels(picture, drawn(painter("torch"), asked)) > 18
    assert sum(step.preview is not None for step in told) == 1
    assert 0 < backend.working_bytes(asked) <= painter("mlx").working_bytes(asked)


def test_a_load_tells_how_far_it_is(backend_name: Backend, flux_folder: Any) -> None:
    loading = load_image(backend_name, checkpoint.read(flux_folder("schnell")), ImageOptions())
    told: list[int] = []
    while True:
        try:
            told.append(next(loading))
        except StopIteration as end:
            backend: ImageBackend = end.value
            break
    assert len(told) >= 3
    assert told == sorted(told)
    assert 0 < told[-1] <= backend.facts.memory_bytes
    backend.close()


@pytest.mark.skipif(not TAEF1.exists(), reason="../shared/data is not there")
def test_a_small_decoder_makes_sharper_previews(flux_folder: Any) -> None:
    previews = []
    names: tuple[Backend, ...] = ("torch", "mlx")
    for name in names:
        backend = open_image(name, flux_folder("schnell"), preview=TAEF1)
        asked = drawing(steps=4, previews=1)
        previews += [step.preview for step in steps_of(backend, asked) if step.preview is not None]
        backend.close()
    assert [preview.shape for preview in previews] == [(64, 64, 3)] * 2
    assert decibels(previews[0], previews[1]) > ALIKE


def test_a_decoder_for_other_latents_is_refused(
    backend_name: Backend, flux_folder: Any, tmp_path: Path
) -> None:
    with pytest.raises(LoadError):
        open_image(backend_name, flux_folder("schnell"), preview=tmp_path)
