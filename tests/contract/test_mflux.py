"""Drawing with mflux. It is made for macOS; where it is installed its code runs here too.

Its autoencoder has a fixed size, so the tiny FLUX.2 klein has 84 million random weights there.
The other families have fixed sizes all over: of them what is asked is held against what mflux
takes.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlxsrv.backends import checkpoint
from mlxsrv.backends.base import ImageBackend
from mlxsrv.backends.image_adapter_files import read_image_adapter
from mlxsrv.backends.image_options import ImageOptions
from mlxsrv.backends.load import finished, load_image
from mlxsrv.core.errors import InvalidRequest, LoadError
from mlxsrv.core.image import Drawing, DrawingStep, Pixels
from tests.tiny_image_adapters import ATTENTION, layer_sizes, matrices, named
from tests.tiny_images import lively, vivid, write_flux2_klein, write_qwen_image, write_z_image

pytestmark = [
    pytest.mark.usefixtures("mlx_thread"),
    pytest.mark.skipif(find_spec("mflux") is None, reason="mflux is not installed"),
]

PICTURE = np.full((64, 64, 3), 200, np.uint8)
DRAWING = Drawing("a red circle", 32, 16, steps=3, seed=7)


def write_klein(folder: Path) -> Path:
    """With an autoencoder of the real size and a transformer that fits it, and the names that
    the published text encoder has."""
    import diffusers
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    write_flux2_klein(folder)
    encoder: Any = Qwen3ForCausalLM
    # Sizes that can be packed in groups of 64.
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4}
    config = Qwen3Config.from_pretrained(folder / "text_encoder", **sizes)
    lively(encoder(config)).save_pretrained(folder / "text_encoder")
    flux: Any = diffusers.Flux2Transformer2DModel
    transformer = flux(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=3 * 64,
        timestep_guidance_channels=64,
        axes_dims_rope=(8, 8, 8, 8),
        guidance_embeds=False,
    )
    lively(transformer).save_pretrained(folder / "transformer")
    kind: Any = diffusers.AutoencoderKLFlux2
    with torch.device("meta"):
        vae = kind()
    vae = vae.to_empty(device="cpu")
    for tensor in itertools.chain(vae.parameters(), vae.buffers()):
        torch.nn.init.constant_(tensor, 1.0 if tensor.ndim == 1 else 0.0)
    for name, tensor in vae.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.zeros_(tensor)
    torch.nn.Module.to(vivid(vae), dtype=torch.bfloat16).save_pretrained(folder / "vae")
    return folder


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_klein(tmp_path_factory.mktemp("klein"))


@pytest.fixture(scope="module", autouse=True)
def _interpreted() -> Iterator[None]:
    """On the CPU, MLX compiles with a compiler of C++."""
    import mlx.core as mx

    mx.disable_compile()
    yield
    mx.enable_compile()


def load(folder: Path, options: ImageOptions | None = None) -> ImageBackend:
    return finished(load_image("mlx", checkpoint.read(folder), options or ImageOptions()))


@pytest.fixture(scope="module")
def backend(klein: Path) -> Iterator[ImageBackend]:
    loaded = load(klein)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def plain(backend: ImageBackend) -> Pixels:
    """What it draws when nothing else goes on."""
    return picture_of(backend.draw(DRAWING))


def picture_of(steps: Iterator[DrawingStep | None]) -> Pixels:
    *_, last = steps
    assert last is not None
    assert last.picture is not None
    return last.picture


def alike(one: Pixels, other: Pixels) -> float:
    """PSNR in dB."""
    error = float(np.mean((one.astype(float) - other) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.mark.slow
def test_a_seed_means_a_picture_whatever_else_is_drawn(
    backend: ImageBackend, plain: Pixels
) -> None:
    assert plain.shape == (16, 32, 3)
    assert plain.std() > 5
    others = [backend.draw(replace(DRAWING, seed=seed, previews=1)) for seed in (7, 8)]
    made: dict[int, Pixels] = {}
    for steps in itertools.zip_longest(*others):
        made |= {
            n: step.picture for n, step in enumerate(steps) if step and step.picture is not None
        }
    assert [np.array_equal(made[n], plain) for n in range(2)] == [True, False]


@pytest.mark.slow
def test_it_tells_how_far_it_is(backend: ImageBackend) -> None:
    steps = [step for step in backend.draw(replace(DRAWING, previews=1)) if step is not None]
    assert [(step.done, step.steps) for step in steps] == [(1, 3), (2, 3), (3, 3), (3, 3)]
    shown = [step.preview for step in steps]
    assert [preview is not None for preview in shown] == [False, True, False, False]
    assert shown[1] is not None
    assert shown[1].shape == (2, 4, 3)
    assert steps[-1].picture is not None


@pytest.mark.slow
def test_a_drawing_can_be_left_half_way(backend: ImageBackend, plain: Pixels) -> None:
    for slices in range(4):
        left = backend.draw(replace(DRAWING, seed=slices))
        for _ in range(slices):
            next(left)
        left.close()  # type: ignore[attr-defined]
    assert np.array_equal(picture_of(backend.draw(DRAWING)), plain)


@pytest.mark.slow
def test_it_looks_at_pictures(backend: ImageBackend, plain: Pixels) -> None:
    two = (PICTURE, np.zeros((80, 64, 3), np.uint8))
    looked = picture_of(backend.draw(replace(DRAWING, images=two)))
    assert looked.shape == plain.shape
    assert not np.array_equal(looked, plain)


@pytest.mark.slow
def test_an_adapter_does_what_merging_it_does(
    klein: Path, backend: ImageBackend, plain: Pixels, tmp_path: Path
) -> None:
    layers = matrices(layer_sizes(klein, (*ATTENTION, "ff.linear_in")), strength=1.5)
    assert any(path.endswith(".to_out.0") for path in layers)
    save_file(named(layers), tmp_path / "lora.safetensors")
    merged = tmp_path / "merged"
    merged.mkdir()
    for part in klein.iterdir():
        (merged / part.name).symlink_to(part)
    (merged / "transformer").unlink()
    (merged / "transformer").mkdir()
    config = (klein / "transformer/config.json").read_bytes()
    (merged / "transformer/config.json").write_bytes(config)
    weights = load_file(klein / "transformer/diffusion_pytorch_model.safetensors")
    for path, (a, b) in layers.items():
        weights[f"{path}.weight"] = weights[f"{path}.weight"] + b @ a
    file = merged / "transformer/diffusion_pytorch_model.safetensors"
    save_file(weights, file, {"format": "pt"})

    backend.add_adapter("mine", read_image_adapter(tmp_path))
    adapted = picture_of(backend.draw(replace(DRAWING, adapter="mine")))
    other = load(merged)
    expected = picture_of(other.draw(DRAWING))
    other.close()
    assert np.array_equal(picture_of(backend.draw(DRAWING)), plain)
    backend.remove_adapter("mine")
    # The one adds in bfloat16, the other has rounded the sum to it.
    assert alike(adapted, expected) > alike(adapted, plain) + 6
    with pytest.raises(InvalidRequest, match="no adapter mine"):
        next(backend.draw(replace(DRAWING, adapter="mine")))


@pytest.mark.slow
def test_weights_can_be_packed(klein: Path, backend: ImageBackend, plain: Pixels) -> None:
    packed = load(klein, ImageOptions(quantize=8))
    assert packed.facts.memory_bytes < backend.facts.memory_bytes
    assert alike(picture_of(packed.draw(DRAWING)), plain) > 15
    packed.close()


@pytest.mark.slow
def test_what_it_can_t_draw_is_refused(backend: ImageBackend) -> None:
    facts = backend.image
    assert (facts.steps, facts.guidance, facts.negative_prompt) == (4, None, False)
    assert (facts.inputs, facts.references, facts.masks) == (4, True, False)
    thin = np.zeros((4, 900, 3), np.uint8)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"width": 24}, "size"),
        ({"negative_prompt": "blue"}, "negative_prompt"),
        ({"images": (PICTURE,) * 5}, "image"),
        ({"images": (PICTURE,), "mask": np.ones((16, 32), np.float32)}, "mask"),
        ({"images": (thin,)}, "image"),
    ]
    for change, param in wrong:
        with pytest.raises(InvalidRequest) as error:
            next(backend.draw(replace(DRAWING, **change)))
        assert error.value.param == param


WRITERS: dict[str, Callable[[Path], Path]] = {
    "Flux2KleinPipeline": write_flux2_klein,
    "ZImagePipeline": write_z_image,
    "QwenImagePipeline": write_qwen_image,
    "QwenImageEditPlusPipeline": lambda folder: write_qwen_image(
        folder, pipeline="QwenImageEditPlusPipeline"
    ),
}


def kinds(pipeline: str) -> tuple[Any, Any]:
    """mflux's classes that draw from a prompt alone, and with pictures."""
    from mflux.models.flux2.variants.edit.flux2_klein_edit import Flux2KleinEdit
    from mflux.models.flux2.variants.txt2img.flux2_klein import Flux2Klein
    from mflux.models.qwen.variants.edit.qwen_image_edit import QwenImageEdit
    from mflux.models.qwen.variants.txt2img.qwen_image import QwenImage
    from mflux.models.z_image.variants.z_image import ZImage

    return {
        "Flux2KleinPipeline": (Flux2Klein, Flux2KleinEdit),
        "ZImagePipeline": (ZImage, ZImage),
        "QwenImagePipeline": (QwenImage, QwenImage),
        "QwenImageEditPlusPipeline": (QwenImageEdit, QwenImageEdit),
    }[pipeline]


@pytest.mark.parametrize("pipeline", WRITERS)
@pytest.mark.parametrize("pictures", [0, 1])
def test_what_is_asked_is_what_mflux_takes(pipeline: str, pictures: int) -> None:
    from mlxsrv.backends.mlx.mflux_families import FAMILIES
    from mlxsrv.backends.mlx.mflux_image import arguments

    family = FAMILIES[pipeline]
    if not pictures and family.needs_picture:
        pytest.skip("it changes pictures")
    drawing = replace(DRAWING, images=(PICTURE,) * pictures, seed=2**70 + 3, guidance=2.5)
    asked = arguments(family, drawing, first=pictures)
    kind = kinds(pipeline)[pictures]
    taken = inspect.signature(kind.generate_image).bind(None, **asked).arguments
    assert (taken["seed"], taken["prompt"]) == (3 + 2**70 % 2**64, "a red circle")
    assert (taken["width"], taken["height"], taken["num_inference_steps"]) == (32, 16, 3)
    assert taken["guidance"] == 2.5
    shown = taken.get("image_paths") or [taken["image_path"]] if pictures else []
    assert [np.asarray(image).tolist() for image in shown] == [PICTURE.tolist()] * pictures


@pytest.mark.parametrize("first", range(1, 9))
@pytest.mark.parametrize("steps", [9, 28])
def test_mflux_leaves_out_the_steps_that_are_to_be_left_out(steps: int, first: int) -> None:
    from mflux.models.common.config.config import Config
    from mflux.models.common.config.model_config import ModelConfig

    from mlxsrv.backends.mlx.mflux_families import FAMILIES

    drawing = replace(DRAWING, steps=steps, images=(PICTURE,))
    asked = FAMILIES["ZImagePipeline"].arguments(drawing, first)
    config = Config(
        ModelConfig.z_image(),
        num_inference_steps=steps,
        image_path=asked["image_path"],
        image_strength=asked["image_strength"],
    )
    assert config.init_time_step == first


def test_previews_are_of_the_latents_that_the_autoencoder_takes() -> None:
    import mlx.core as mx
    from mflux.models.qwen.latent_creator.qwen_latent_creator import QwenLatentCreator
    from mflux.models.z_image.latent_creator.z_image_latent_creator import ZImageLatentCreator

    from mlxsrv.backends.mlx.mflux_families import FAMILIES

    creators = {"ZImagePipeline": ZImageLatentCreator, "QwenImagePipeline": QwenLatentCreator}
    for pipeline, creator in creators.items():
        latents = creator.create_noise(1, DRAWING.height, DRAWING.width)
        cells = FAMILIES[pipeline].cells(None, latents, DRAWING)
        assert cells.shape == (1, 16, 2, 4)
        assert mx.array_equal(cells, creator.unpack_latents(latents, DRAWING.height, DRAWING.width))


@pytest.mark.parametrize("pipeline", ["ZImagePipeline", "QwenImagePipeline"])
def test_other_sizes_than_mflux_builds_are_refused(pipeline: str, tmp_path: Path) -> None:
    WRITERS[pipeline](tmp_path)
    with pytest.raises(LoadError, match="mflux draws only with a transformer whose"):
        load(tmp_path)


@pytest.mark.parametrize("pipeline", WRITERS)
def test_loading_gets_as_far_as_the_weights(pipeline: str, tmp_path: Path) -> None:
    """Nothing but weights is missing here, and mflux says so without asking the hub."""
    import json

    from mlxsrv.backends.mlx.mflux_families import FAMILIES

    WRITERS[pipeline](tmp_path)
    for file in tmp_path.rglob("*.safetensors"):
        file.unlink()
    config = tmp_path / "transformer/config.json"
    own = {"dim", "n_layers", "n_heads", "cap_feat_dim", "num_layers", "num_attention_heads"}
    kept = json.loads(config.read_text())
    if pipeline != "Flux2KleinPipeline":
        kept = {key: kept[key] for key in kept.keys() - own - {"joint_attention_dim"}}
    config.write_text(json.dumps(kept))
    with pytest.raises((ValueError, OSError), match="safetensors"):
        FAMILIES[pipeline].load(tmp_path, 4)


@pytest.mark.parametrize(
    ("pipeline", "options", "reason"),
    [
        ("Flux2KleinPipeline", ImageOptions(staged=True), "keeps in memory"),
        ("QwenImagePipeline", ImageOptions(preview=Path("taef1")), "leave preview out"),
    ],
)
def test_what_mflux_lacks_is_refused(
    pipeline: str, options: ImageOptions, reason: str, tmp_path: Path
) -> None:
    WRITERS[pipeline](tmp_path)
    with pytest.raises(LoadError, match=reason):
        load(tmp_path, options)


def test_habits_are_told_by_the_folder(tmp_path: Path) -> None:
    from mlxsrv.backends.mlx.mflux_families import FAMILIES

    folders = {
        (4, None): write_flux2_klein(tmp_path / "klein"),
        (50, 4.0): write_flux2_klein(tmp_path / "base", distilled=False),
    }
    for expected, folder in folders.items():
        facts = FAMILIES["Flux2KleinPipeline"].facts(folder)
        assert (facts.steps, facts.guidance) == expected
    turbo = FAMILIES["ZImagePipeline"].facts(write_z_image(tmp_path / "turbo"))
    assert (turbo.steps, turbo.guidance, turbo.negative_prompt) == (8, None, False)
    full = FAMILIES["ZImagePipeline"].facts(write_z_image(tmp_path / "z", turbo=False))
    assert (full.steps, full.guidance, full.negative_prompt) == (50, 4.0, True)
