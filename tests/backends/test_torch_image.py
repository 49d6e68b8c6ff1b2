"""Drawing on torch, held against diffusers' own pipelines."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mlxsrv.backends import checkpoint
from mlxsrv.backends.adapter import Adapter, LowRank
from mlxsrv.backends.base import ImageBackend
from mlxsrv.backends.image_options import ImageOptions
from mlxsrv.backends.load import finished, load_image
from mlxsrv.backends.noise import noise
from mlxsrv.backends.torch.image_parts import Folder
from mlxsrv.core.errors import InvalidRequest, LoadError
from mlxsrv.core.image import Drawing, DrawingStep, Mask, Pixels
from tests.tiny_images import write_flux, write_flux2_klein, write_qwen_image, write_z_image

pytestmark = pytest.mark.slow

TAEF1 = Path("../shared/data/taef1/taef1_decoder.safetensors")
KINDS: dict[str, Callable[[Path], Path]] = {
    "schnell": write_flux,
    "dev": partial(write_flux, guidance=True, dynamic_shift=True),
    "kontext": partial(write_flux, guidance=True, pipeline="FluxKontextPipeline"),
    "fill": partial(write_flux, guidance=True, pipeline="FluxFillPipeline"),
    "klein": write_flux2_klein,
    "klein base": partial(write_flux2_klein, distilled=False),
    "z-image": partial(write_z_image, turbo=False),
    "z-image turbo": write_z_image,
    "qwen": write_qwen_image,
    "qwen edit": partial(write_qwen_image, pipeline="QwenImageEditPipeline"),
    "qwen edit plus": partial(write_qwen_image, pipeline="QwenImageEditPlusPipeline"),
}
PLAIN = Drawing("a red circle", 64, 96, steps=3, seed=7)

FolderOf = Callable[[str], Path]
Open = Callable[..., ImageBackend]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> FolderOf:
    """A tiny checkpoint of some kind, built once."""
    root = tmp_path_factory.mktemp("images")

    def folder(kind: str) -> Path:
        path = root / kind
        return path if path.exists() else KINDS[kind](path)

    return folder


@pytest.fixture(scope="module")
def opened(folder_of: FolderOf) -> Iterator[Open]:
    """Loads a kind, once for each choice of options."""
    loaded: dict[object, ImageBackend] = {}

    def get(kind: str, **options: Any) -> ImageBackend:
        key = kind, *options.items()
        if key not in loaded:
            loaded[key] = load(folder_of(kind), **options)
        return loaded[key]

    yield get
    for backend in loaded.values():
        backend.close()


def load(folder: Path, **options: Any) -> ImageBackend:
    return finished(load_image("torch", checkpoint.read(folder), ImageOptions(**options)))


def bare(folder: Path, name: str | None = None) -> Any:
    """diffusers' own pipeline, or another one made of its parts."""
    import diffusers

    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    if name is not None:
        pipeline = getattr(diffusers, name)(**pipeline.components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def told(backend: ImageBackend, drawing: Drawing) -> list[DrawingStep]:
    return [step for step in backend.draw(drawing) if step is not None]


def drawn(backend: ImageBackend, drawing: Drawing) -> Pixels:
    picture = told(backend, drawing)[-1].picture
    assert picture is not None
    return picture


def grid(drawing: Drawing, channels: int = 16) -> torch.Tensor:
    shape = channels, drawing.height // 8, drawing.width // 8
    return torch.from_numpy(noise(drawing.seed, shape))[None]


def packed(latents: torch.Tensor) -> torch.Tensor:
    from diffusers import FluxPipeline

    found: torch.Tensor = FluxPipeline._pack_latents(latents, *latents.shape)
    return found


def asked(drawing: Drawing, **more: Any) -> dict[str, Any]:
    """What all pipelines take."""
    return {
        "prompt": drawing.prompt,
        "width": drawing.width,
        "height": drawing.height,
        "num_inference_steps": drawing.steps,
        **more,
    }


def pixels_of(output: Any) -> Pixels:
    return np.array(output.images[0])


def alike(one: Pixels, other: Pixels) -> bool:
    """But for rounding: convolutions add up in another order than diffusers' do."""
    return one.shape == other.shape and int(np.abs(one.astype(int) - other).max()) <= 1


def photo(width: int = 64, height: int = 96, seed: int = 0) -> Pixels:
    cells = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3))
    pixels: Pixels = cells.repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)
    return pixels


def upper_half(width: int = 64, height: int = 96) -> Mask:
    mask = np.zeros((height, width), np.float32)
    mask[: height // 2] = 1
    return mask


# The same as diffusers


@pytest.mark.parametrize("kind", ["schnell", "dev"])
def test_flux_draws_what_diffusers_draws(kind: str, folder_of: FolderOf, opened: Open) -> None:
    backend = opened(kind)
    drawing = replace(PLAIN, guidance=backend.image.guidance)
    expected = bare(folder_of(kind))(
        **asked(drawing),
        latents=packed(grid(drawing)),
        guidance_scale=drawing.guidance or 0.0,
        max_sequence_length=32,
    )
    assert alike(drawn(backend, drawing), pixels_of(expected))


def begun(pipeline: Any, drawing: Drawing, sigma: float) -> torch.Tensor:
    """Latents of the drawing's picture with noise."""
    pixels = pipeline.image_processor.preprocess(Image.fromarray(drawing.images[0]))
    config = pipeline.vae.config
    with torch.no_grad():
        if config.get("latents_mean"):
            mode = pipeline.vae.encode(pixels[:, :, None]).latent_dist.mode()[:, :, 0]
            mean, deviation = torch.tensor([config.latents_mean, config.latents_std])[
                ..., None, None
            ]
            plain = (mode - mean) / deviation
        else:
            mode = pipeline.vae.encode(pixels).latent_dist.mode()
            plain = (mode - config.shift_factor) * config.scaling_factor
    mixed: torch.Tensor = sigma * grid(drawing) + (1.0 - sigma) * plain
    return mixed


def test_flux_goes_on_from_a_picture_as_diffusers_does(folder_of: FolderOf, opened: Open) -> None:
    drawing = replace(PLAIN, steps=4, images=(photo(),), strength=0.6)
    pipeline = bare(folder_of("schnell"), "FluxImg2ImgPipeline")
    expected = pipeline(
        **asked(drawing),
        image=Image.fromarray(drawing.images[0]),
        strength=drawing.strength,
        latents=packed(begun(pipeline, drawing, sigma=0.75)),
        guidance_scale=0.0,
        max_sequence_length=32,
    )
    steps = told(opened("schnell"), drawing)
    assert [(step.done, step.steps) for step in steps] == [(1, 3), (2, 3), (3, 3), (3, 3)]
    assert alike(drawn(opened("schnell"), drawing), pixels_of(expected))


def test_flux_keeps_what_is_not_masked_as_diffusers_does(folder_of: FolderOf, opened: Open) -> None:
    drawing = replace(PLAIN, steps=4, images=(photo(),), mask=upper_half(), strength=1.0)
    pipeline = bare(folder_of("schnell"), "FluxInpaintPipeline")
    sure = pipeline.vae.encoder.conv_out
    sure.weight.data[16:], sure.bias.data[16:] = 0, -30  # so that a sample is the mode
    expected = pipeline(
        **asked(drawing),
        image=Image.fromarray(drawing.images[0]),
        mask_image=Image.fromarray((upper_half() * 255).astype(np.uint8)),
        strength=drawing.strength,
        latents=grid(drawing),
        guidance_scale=0.0,
        max_sequence_length=32,
    )
    assert alike(drawn(opened("schnell"), drawing), pixels_of(expected))


def test_kontext_looks_at_a_picture_as_diffusers_does(folder_of: FolderOf, opened: Open) -> None:
    drawing = replace(PLAIN, images=(photo(80, 64),), guidance=2.0)
    expected = bare(folder_of("kontext"))(
        **asked(drawing),
        image=Image.fromarray(drawing.images[0]),
        latents=packed(grid(drawing)),
        guidance_scale=2.0,
        max_sequence_length=32,
        max_area=drawing.width * drawing.height,
        _auto_resize=False,
    )
    assert alike(drawn(opened("kontext"), drawing), pixels_of(expected))


@pytest.mark.parametrize(("kind", "guidance"), [("klein", 1.0), ("klein base", 3.0)])
def test_klein_draws_what_diffusers_draws(
    kind: str, guidance: float, folder_of: FolderOf, opened: Open
) -> None:
    drawing = replace(PLAIN, guidance=guidance, images=(photo(), photo(128, 64, seed=1)))
    expected = bare(folder_of(kind))(
        **asked(drawing),
        image=[Image.fromarray(picture) for picture in drawing.images],
        latents=torch.nn.functional.pixel_unshuffle(grid(drawing, channels=8), 2),
        guidance_scale=guidance,
    )
    assert alike(drawn(opened(kind), drawing), pixels_of(expected))


@pytest.mark.parametrize(("kind", "heeds"), [("klein", False), ("klein base", True)])
def test_a_distilled_klein_heeds_no_guidance(kind: str, heeds: bool, opened: Open) -> None:
    little, much = (replace(PLAIN, guidance=guidance) for guidance in (1.0, 4.0))
    assert alike(drawn(opened(kind), little), drawn(opened(kind), much)) != heeds


@pytest.mark.parametrize(("kind", "guidance"), [("z-image turbo", 0.0), ("z-image", 4.0)])
def test_z_image_draws_what_diffusers_draws(
    kind: str, guidance: float, folder_of: FolderOf, opened: Open
) -> None:
    negative = "a blue square" if guidance else None
    drawing = replace(PLAIN, guidance=guidance, negative_prompt=negative)
    expected = bare(folder_of(kind))(
        **asked(drawing),
        negative_prompt=negative,
        latents=grid(drawing),
        guidance_scale=guidance,
    )
    assert alike(drawn(opened(kind), drawing), pixels_of(expected))


def test_qwen_image_draws_what_diffusers_draws(folder_of: FolderOf, opened: Open) -> None:
    drawing = replace(PLAIN, guidance=4.0, negative_prompt="a blue square")
    expected = bare(folder_of("qwen"))(
        **asked(drawing),
        negative_prompt=drawing.negative_prompt,
        latents=packed(grid(drawing)),
        true_cfg_scale=4.0,
    )
    assert alike(drawn(opened("qwen"), drawing), pixels_of(expected))
    assert drawn(opened("qwen"), replace(drawing, steps=1)).std() > 5


@pytest.mark.parametrize(
    ("kind", "name"),
    [("z-image", "ZImageImg2ImgPipeline"), ("qwen", "QwenImageImg2ImgPipeline")],
)
def test_other_families_go_on_from_a_picture_as_diffusers_does(
    kind: str, name: str, folder_of: FolderOf, opened: Open
) -> None:
    drawing = replace(PLAIN, steps=5, images=(photo(),), strength=0.4, guidance=0.0)
    backend = opened(kind)
    start = first_latents(backend, drawing)
    pipeline = bare(folder_of(kind), name)
    guidance = {"true_cfg_scale" if kind == "qwen" else "guidance_scale": 0.0}
    expected = pipeline(
        **asked(drawing, **guidance),
        image=Image.fromarray(drawing.images[0]),
        strength=drawing.strength,
        latents=start,
    )
    assert alike(drawn(backend, drawing), pixels_of(expected))
    mixed = begun(pipeline, drawing, float(pipeline.scheduler.sigmas[3]))
    assert torch.allclose(start, packed(mixed) if kind == "qwen" else mixed, atol=1e-5)


def first_latents(backend: Any, drawing: Drawing) -> torch.Tensor:
    """What reaches a model's transformer first."""
    found: list[torch.Tensor] = []

    def see(module: object, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        found.append(
            options["hidden_states"] if options.get("img_shapes") else args[0][0][None, :, 0]
        )

    hook = transformer_of(backend).register_forward_pre_hook(see, with_kwargs=True)
    drawn(backend, drawing)
    hook.remove()
    return found[0]


def transformer_of(backend: Any) -> torch.nn.Module:
    module: torch.nn.Module = backend._studio.parts.components["transformer"]
    return module


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen edit", "qwen edit plus"])
def test_qwen_image_edits_what_it_is_shown(kind: str, opened: Open) -> None:
    """diffusers alone can't: the processor of its checkpoints wants torchvision."""
    backend = opened(kind)
    drawing = replace(PLAIN, steps=1, guidance=1.0, images=(photo(),))
    shown = (photo(), photo(seed=1)) if backend.image.inputs > 1 else (photo(seed=1),)
    other = replace(drawing, images=shown)
    assert not alike(drawn(backend, drawing), drawn(backend, other))
    with pytest.raises(InvalidRequest, match="send one") as refusal:
        drawn(backend, PLAIN)
    assert refusal.value.param == "image"


def test_models_say_what_their_families_can_do(opened: Open) -> None:
    said = {kind: opened(kind).image for kind in KINDS}
    assert {kind: (facts.steps, facts.guidance) for kind, facts in said.items()} == {
        "schnell": (4, None),
        "dev": (28, 3.5),
        "kontext": (28, 2.5),
        "fill": (50, 30.0),
        "klein": (4, None),
        "klein base": (50, 4.0),
        "z-image": (50, 4.0),
        "z-image turbo": (8, None),
        "qwen": (50, 4.0),
        "qwen edit": (50, 4.0),
        "qwen edit plus": (40, 4.0),
    }
    heeding = {kind for kind, facts in said.items() if facts.negative_prompt}
    assert heeding == {"z-image", "qwen", "qwen edit", "qwen edit plus"}
    looking = {kind for kind, facts in said.items() if facts.references}
    assert looking == {"kontext", "klein", "klein base", "qwen edit", "qwen edit plus"}
    assert (said["qwen"].width, said["klein"].width) == (1024, 64)


# In slices


@pytest.mark.parametrize("kind", ["schnell", "klein base", "z-image", "qwen"])
def test_drawings_in_turns_are_those_alone(kind: str, opened: Open) -> None:
    """Left before every layer, in the text encoders, the transformer and the autoencoder."""
    backend = opened(kind, slice_seconds=0.0)
    begins = not backend.image.references
    drawings = [
        replace(PLAIN, guidance=2.0, images=(photo(),) if begins else ()),
        replace(PLAIN, guidance=4.0, seed=8, prompt="blue", width=96, steps=2, previews=1),
        replace(PLAIN, guidance=3.0, seed=9, prompt="a green square, small"),
    ]
    alone = [drawn(opened(kind), drawing) for drawing in drawings]
    running = {number: backend.draw(drawing) for number, drawing in enumerate(drawings)}
    last: dict[int, DrawingStep | None] = {}
    while running:
        for number, steps in list(running.items()):
            try:
                last[number] = next(steps)
            except StopIteration:
                del running[number]
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
    for number, picture in enumerate(alone):
        step = last[number]
        assert step is not None
        assert step.picture is not None
        assert np.array_equal(step.picture, picture)


def test_what_a_drawing_holds_goes_when_it_is_given_up(opened: Open) -> None:
    backend = opened("schnell", slice_seconds=0.0)
    held: list[weakref.ref[torch.Tensor]] = []

    def see(module: object, args: object, options: dict[str, torch.Tensor]) -> None:
        held.append(weakref.ref(options["hidden_states"]))

    hook = transformer_of(backend).register_forward_pre_hook(see, with_kwargs=True)
    steps = backend.draw(PLAIN)
    while not held:
        next(steps)
    next(steps)
    assert held[0]() is not None
    gc.disable()
    steps.close()  # type: ignore[attr-defined]
    assert held[0]() is None
    gc.enable()
    hook.remove()
    assert np.array_equal(drawn(backend, PLAIN), drawn(opened("schnell"), PLAIN))


def test_one_that_fails_leaves_the_other_alone(opened: Open) -> None:
    backend = opened("schnell", slice_seconds=0.0)
    expected = drawn(backend, PLAIN)
    steps, others = backend.draw(PLAIN), backend.draw(replace(PLAIN, seed=8))
    next(steps)

    def fail(*_: object) -> None:
        raise RuntimeError("out of luck")

    hook = transformer_of(backend).register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        list(others)
    hook.remove()
    last = list(steps)[-1]
    assert last is not None
    assert last.picture is not None
    assert np.array_equal(last.picture, expected)


# Prompts


def test_a_prompt_is_read_once(opened: Open) -> None:
    backend: Any = opened("schnell")
    read: list[object] = []
    encoder = backend._studio.parts.components["text_encoder"]
    hook = encoder.register_forward_hook(lambda *_: read.append(None))
    for prompt in ("one", "two", "one", "two"):
        drawn(backend, replace(PLAIN, prompt=prompt, steps=1))
    hook.remove()
    assert len(read) == 2


def test_staged_text_encoders_are_there_only_for_prompts(
    folder_of: FolderOf, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[Any]] = []
    load_part = Folder.load

    def see(self: Folder, name: str) -> Any:
        part = load_part(self, name)
        if name in self.encoders:
            loaded.append(weakref.ref(part))
        return part

    monkeypatch.setattr(Folder, "load", see)
    folder = shutil.copytree(folder_of("schnell"), tmp_path / "copy")
    whole, staged = opened("schnell"), load(folder, staged=True, slice_seconds=0.0)
    loaded.clear()
    assert staged.facts.memory_bytes < whole.facts.memory_bytes
    drawings = [PLAIN, replace(PLAIN, prompt="blue")]
    *_, last = zip(*(staged.draw(drawing) for drawing in drawings), strict=True)
    for step, drawing in zip(last, drawings, strict=True):
        assert step is not None
        assert step.picture is not None
        assert np.array_equal(step.picture, drawn(whole, drawing))
    gc.collect()
    assert [encoder() for encoder in loaded] == [None] * 2
    shutil.rmtree(folder / "text_encoder_2")
    assert np.array_equal(drawn(staged, PLAIN), drawn(whole, PLAIN))
    with pytest.raises(LoadError):
        drawn(staged, replace(PLAIN, prompt="never seen"))


# Adapters


def adapter_for(folder: Path, *paths: str, scale: float = 2.0) -> Adapter:
    """Changes the linear layers at these paths of a model with 64 dimensions."""
    rng = np.random.default_rng(0)
    layers = {
        path: LowRank(
            a=(rng.standard_normal((4, 64)) / 8).astype(np.float32),
            b=(rng.standard_normal((64, 4)) / 2).astype(np.float32),
            scale=scale,
        )
        for path in paths
    }
    return Adapter(folder, layers)


PATHS = ("transformer_blocks.0.attn.to_q", "single_transformer_blocks.1.attn.to_v")


def test_an_adapter_draws_as_if_it_were_merged(folder_of: FolderOf, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    adapter = adapter_for(tmp_path, *PATHS)
    merged = shutil.copytree(folder_of("schnell"), tmp_path / "merged")
    file = next((merged / "transformer").glob("*.safetensors"))
    tensors = load_file(file)
    for path, layer in adapter.layers.items():
        tensors[f"{path}.weight"] += torch.from_numpy(layer.b @ layer.a) * layer.scale
    save_file(tensors, file, metadata={"format": "pt"})
    backend = load(folder_of("schnell"), slice_seconds=0.0)
    plain = drawn(backend, PLAIN)
    backend.add_adapter("style", adapter)
    styled = drawn(backend, replace(PLAIN, adapter="style"))
    expected = drawn(load(merged), PLAIN)
    assert alike(styled, expected)
    assert not alike(plain, expected)
    assert np.array_equal(drawn(backend, PLAIN), plain)


def test_each_drawing_in_turns_has_its_own_adapter(folder_of: FolderOf, tmp_path: Path) -> None:
    backend = load(folder_of("schnell"), slice_seconds=0.0)
    backend.add_adapter("one", adapter_for(tmp_path, *PATHS))
    backend.add_adapter("other", adapter_for(tmp_path, *PATHS[:1], scale=-1.0))
    drawings = [replace(PLAIN, adapter=name) for name in (None, "one", "other")]
    alone = [drawn(backend, drawing) for drawing in drawings]
    assert len({picture.tobytes() for picture in alone}) == 3
    turns = zip(*(backend.draw(drawing) for drawing in drawings), strict=True)
    *_, last = turns
    for step, picture in zip(last, alone, strict=True):
        assert step is not None
        assert step.picture is not None
        assert np.array_equal(step.picture, picture)
    backend.remove_adapter("one")
    with pytest.raises(InvalidRequest, match="one"):
        drawn(backend, drawings[1])
    with pytest.raises(InvalidRequest, match="not a linear layer"):
        backend.add_adapter("foreign", adapter_for(tmp_path, "model.layers.0.q_proj"))


# Previews and memory


@pytest.mark.skipif(not TAEF1.exists(), reason="its weights are not here")
def test_previews_by_a_small_decoder(opened: Open) -> None:
    backend = opened("schnell", preview=TAEF1)
    previews = [step.preview for step in told(backend, replace(PLAIN, previews=2))]
    assert [preview is not None for preview in previews] == [True, True, False, False]
    assert previews[0] is not None
    assert previews[0].shape == (96, 64, 3)
    assert previews[0].std() > 5


@pytest.mark.parametrize("kind", ["schnell", "qwen"])
def test_large_pictures_are_decoded_in_tiles(kind: str, folder_of: FolderOf, opened: Open) -> None:
    drawing = replace(PLAIN, width=1152, height=32, steps=2, guidance=0.0)
    pipeline = bare(folder_of(kind))
    if kind == "qwen":
        pipeline.vae.enable_tiling(1024, 1024, 768, 768)
    else:
        pipeline.vae.enable_tiling()
        pipeline.vae.tile_sample_min_size, pipeline.vae.tile_latent_min_size = 1024, 128
    more = {"guidance_scale": 0.0, "max_sequence_length": 32} if kind == "schnell" else {}
    expected = pipeline(**asked(drawing, latents=packed(grid(drawing)), **more))
    assert alike(drawn(opened(kind), drawing), pixels_of(expected))


def test_closing_a_model_frees_it(folder_of: FolderOf) -> None:
    backend = load(folder_of("schnell"))
    drawn(backend, replace(PLAIN, images=(photo(),), previews=1))
    weight = weakref.ref(next(transformer_of(backend).parameters()))
    backend.close()
    gc.collect()
    assert weight() is None


def test_larger_drawings_and_references_take_more_memory(opened: Open) -> None:
    large = replace(PLAIN, width=1024, height=1024)
    for kind in ("schnell", "kontext", "klein", "z-image", "qwen", "qwen edit"):
        backend = opened(kind)
        assert backend.working_bytes(large) > backend.working_bytes(PLAIN) > 0
    looked = replace(PLAIN, images=(photo(1024, 1024),))
    assert opened("klein").working_bytes(looked) > opened("klein").working_bytes(PLAIN)


# What can't be loaded


def edited(folder: Path, file: str, **changes: Any) -> Path:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
    return folder


@pytest.mark.parametrize(
    ("file", "changes", "why"),
    [
        ("model_index.json", {"_class_name": "StableDiffusionPipeline"}, "FluxPipeline"),
        ("model_index.json", {"transformer": ["custom", "Model"]}, r"custom\.Model"),
        ("model_index.json", {"transformer": ["diffusers", "Unheard"]}, "no Unheard"),
        (
            "transformer/config.json",
            {"quantization_config": {"quant_method": "bitsandbytes"}},
            "bitsandbytes.*plain checkpoint",
        ),
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, "DDIMScheduler"),
    ],
    ids=["family", "library", "class", "quantised", "scheduler"],
)
def test_what_is_not_served_is_said(
    file: str, changes: dict[str, Any], why: str, folder_of: FolderOf, tmp_path: Path
) -> None:
    folder = shutil.copytree(folder_of("schnell"), tmp_path / "other")
    with pytest.raises(LoadError, match=why):
        load(edited(folder, file, **changes))


def test_a_load_tells_how_far_it_is(folder_of: FolderOf) -> None:
    loading = load_image("torch", checkpoint.read(folder_of("schnell")), ImageOptions())
    told = list(loading)
    assert told == sorted(told)
    assert told[0] == 0
    assert len(set(told)) == 5  # nothing, and four parts with weights
    assert told[-1] == load(folder_of("schnell")).facts.memory_bytes


@pytest.mark.parametrize("shard", ["1GB", "400KB"])
def test_files_of_a_variant_are_found(shard: str, opened: Open, tmp_path: Path) -> None:
    folder = write_flux(tmp_path / "plain", shard=shard)
    variant = tmp_path / "variant"
    shutil.copytree(folder, variant, ignore=shutil.ignore_patterns("*.safetensors*"))
    for name in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        model = load_part(folder, name)
        model.save_pretrained(variant / name, variant="fp16", max_shard_size=shard)
    assert not list(variant.glob("*/*model.safetensors"))
    assert np.array_equal(drawn(load(variant), PLAIN), drawn(opened("schnell"), PLAIN))


def load_part(folder: Path, name: str) -> Any:
    return getattr(bare(folder), name)
