"""The networks of FLUX.1 on MLX against those of diffusers and transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from mlxsrv.backends import flux_layout as layout
from mlxsrv.backends.load import finished
from mlxsrv.backends.mlx import attention, convolution
from mlxsrv.backends.mlx.activations import named_activation
from mlxsrv.backends.mlx.clip import Clip, clip_shape
from mlxsrv.backends.mlx.exponential import exponential
from mlxsrv.backends.mlx.flux import FluxTransformer, Known, angles_of, flux_shape
from mlxsrv.backends.mlx.flux_files import load_clip, load_t5, load_transformer, load_vae
from mlxsrv.backends.mlx.pieces import Pace, Pieces
from mlxsrv.backends.mlx.t5 import T5, t5_shape
from mlxsrv.backends.mlx.vae import Vae, vae_shape
from mlxsrv.backends.recent import Recent
from mlxsrv.backends.reference_pictures import kontext_size
from mlxsrv.core.errors import LoadError
from tests import tiny_images

pytestmark = pytest.mark.usefixtures("mlx_thread")

CLOSE = 1e-4


@pytest.fixture(params=["fitting", "bounded"])
def bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, and as large pictures are computed: a little at a time."""
    if request.param == "bounded":
        monkeypatch.setattr(attention, "SCORE_BYTES", 20_000)
        monkeypatch.setattr(convolution, "PATCHES", 50_000)


def run(pieces: Pieces, pace: Pace | None = None) -> Any:
    slices = (pace or Pace(0.05)).run(pieces)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return np.array(end.value)


def stored(model: Any, folder: Path) -> Path:
    """Written as a part, with weights that make a difference."""
    tiny_images.lively(model).save_pretrained(folder)
    return folder


@pytest.mark.usefixtures("bounds")
@pytest.mark.parametrize("guided", [False, True])
def test_the_transformer_is_that_of_diffusers(guided: bool, tmp_path: Path) -> None:
    from diffusers import FluxTransformer2DModel

    theirs = FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=20,
        pooled_projection_dim=24,
        guidance_embeds=guided,
        axes_dims_rope=(4, 4, 8),
    )
    theirs.save_pretrained(tmp_path)
    ours = finished(load_transformer(tmp_path, None))
    rng = np.random.default_rng(0)
    latents, text, pooled = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((1, 6 * 9, 16), (1, 7, 20), (1, 24))
    )
    places = np.concatenate([layout.text_places(7), layout.picture_places(12, 18)])
    known = Known(
        mx.array(text),
        mx.array(pooled),
        3.5 if guided else None,
        angles_of(places, (4, 4, 8)),
    )
    found = run(ours.pieces(mx.array(latents), known, 750.0))
    with torch.no_grad():
        expected = theirs(
            torch.from_numpy(latents),
            torch.from_numpy(text),
            torch.from_numpy(pooled),
            torch.tensor([0.75]),
            torch.from_numpy(places[7:]).float(),
            torch.zeros(7, 3),
            torch.tensor([3.5]) if guided else None,
        ).sample
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected.numpy(), atol=CLOSE)


@pytest.mark.usefixtures("bounds")
@pytest.mark.parametrize(
    "config",
    [
        {"block_out_channels": (8, 16, 16), "layers_per_block": 2},
        {
            "block_out_channels": (16, 8),
            "latent_channels": 5,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
            "shift_factor": 0.3,
            "scaling_factor": 0.7,
        },
        {"block_out_channels": (8,), "mid_block_add_attention": False},
    ],
    ids=["deep", "no quantisation", "flat"],
)
def test_the_autoencoder_is_that_of_diffusers(config: dict[str, Any], tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    levels = len(config["block_out_channels"])
    theirs = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=4,
        **config,
    )
    tiny_images.vivid(theirs).save_pretrained(tmp_path)
    ours = finished(load_vae(tmp_path))
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, 32, 48, 3)).astype(np.float32)
    with torch.no_grad():
        plain = theirs.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2)).latent_dist.mode()
        pictures = theirs.decode(plain).sample.permute(0, 2, 3, 1).numpy()
    scale, shift = theirs.config.scaling_factor, theirs.config.shift_factor or 0
    latents = (plain.permute(0, 2, 3, 1).numpy() - shift) * scale
    assert latents.std() > 0.01
    np.testing.assert_allclose(run(ours.encode(mx.array(pixels))), latents, atol=CLOSE)
    np.testing.assert_allclose(run(ours.decode(mx.array(latents))), pictures, atol=CLOSE)


@pytest.mark.parametrize("kind", ["gated-gelu", "relu", "gated-silu"])
def test_t5_is_that_of_transformers(kind: str, tmp_path: Path) -> None:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=99,
        d_model=24,
        d_kv=10,
        d_ff=40,
        num_layers=3,
        num_heads=3,
        feed_forward_proj=kind,
        relative_attention_max_distance=50,
        is_encoder_decoder=False,
        use_cache=False,
    )
    theirs = T5EncoderModel(config)
    ours = finished(load_t5(stored(theirs, tmp_path), None))
    ids = np.random.default_rng(0).integers(0, 99, 130)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids)[None])[0]
    np.testing.assert_allclose(run(ours(ids)), expected.numpy(), atol=CLOSE)


@pytest.mark.parametrize(
    ("end", "ids"),
    [(2, [0, 7, 60, 3, 2, 2]), (9, [0, 7, 9, 50, 9, 9]), (9, [0, 1, 2, 3, 4, 5])],
    ids=["highest id", "first end", "no end"],
)
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_clip_is_that_of_transformers(
    end: int, ids: list[int], activation: str, tmp_path: Path
) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=64,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=3,
        max_position_embeddings=12,
        hidden_act=activation,
        eos_token_id=end,
    )
    theirs = CLIPTextModel(config)
    ours = finished(load_clip(stored(theirs, tmp_path)))
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).pooler_output
    np.testing.assert_allclose(run(ours(np.array(ids))), expected.numpy(), atol=CLOSE)


def test_older_names_of_tensors_are_known(tmp_path: Path) -> None:
    """As in the published FLUX.1: CLIP with a prefix, T5 with its embeddings twice."""
    folder = tiny_images.write_flux(tmp_path / "new")
    ids = np.array([0, 5, 9, 2])
    new = run(finished(load_clip(folder / "text_encoder"))(ids))
    t5 = run(finished(load_t5(folder / "text_encoder_2", None))(ids))
    clip_file = folder / "text_encoder" / "model.safetensors"
    tensors = {f"text_model.{name}": array for name, array in mx.load(str(clip_file)).items()}
    tensors["text_model.embeddings.position_ids"] = mx.arange(77)[None]
    mx.save_safetensors(str(clip_file), tensors)
    t5_file = folder / "text_encoder_2" / "model.safetensors"
    tensors = mx.load(str(t5_file))
    tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")
    mx.save_safetensors(str(t5_file), tensors)
    assert np.array_equal(run(finished(load_clip(folder / "text_encoder"))(ids)), new)
    assert np.array_equal(run(finished(load_t5(folder / "text_encoder_2", None))(ids)), t5)


@pytest.mark.parametrize(
    "config",
    [{"patch_size": 2}, {"axes_dims_rope": [16, 56]}, {"attention_head_dim": 64}],
    ids=" ".join,
)
def test_another_kind_of_transformer_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(LoadError):
        flux_shape(config)


def published(name: str, **config: Any) -> dict[str, tuple[int, ...]]:
    """The tensors of a network of the size that FLUX.1 has, which take no memory."""
    import diffusers
    import transformers

    with torch.device("meta"):
        library = diffusers if hasattr(diffusers, name) else transformers
        made = getattr(library, name)
        model = made(**config) if library is diffusers else made(made.config_class(**config))
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def ours(network: nn.Module) -> dict[str, tuple[int, ...]]:
    shapes = {name: array.shape for name, array in tree_flatten(network.parameters())}
    return {
        name: (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape
        for name, shape in shapes.items()
    }


def test_the_published_transformers_fit() -> None:
    for config in ({}, {"guidance_embeds": True}, {"in_channels": 384, "out_channels": 64}):
        network = FluxTransformer(flux_shape(config))
        assert ours(network) == published("FluxTransformer2DModel", **config)


def test_the_published_autoencoder_fits() -> None:
    config = {
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "latent_channels": 16,
        "layers_per_block": 2,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }
    assert ours(Vae(vae_shape(config))) == published("AutoencoderKL", **config)


def test_the_published_text_encoders_fit() -> None:
    t5 = {
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10240,
        "num_heads": 64,
        "num_layers": 24,
        "vocab_size": 32128,
        "feed_forward_proj": "gated-gelu",
    }
    theirs = published("T5EncoderModel", **t5)
    theirs.pop("encoder.embed_tokens.weight", None)
    assert ours(T5(t5_shape(t5))) == theirs
    clip = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "vocab_size": 49408,
    }
    assert ours(Clip(clip_shape(clip))) == published("CLIPTextModel", **clip)


# Parts without networks


def test_the_functions_of_the_cpu_are_those_that_they_are_called() -> None:
    """Whose exponential is our own there."""
    places = np.linspace(-200, 200, 100_001, dtype=np.float32)
    named: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "silu": torch.nn.functional.silu,
        "gelu": torch.nn.functional.gelu,
        "gelu_new": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
        "relu": torch.nn.functional.relu,
    }
    for name, theirs in named.items():
        found = np.array(named_activation(name)(mx.array(places)))
        expected = theirs(torch.from_numpy(places)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    weights = np.array(exponential(mx.array(places[places <= 0])))
    np.testing.assert_allclose(weights, np.exp(places[places <= 0]), atol=2e-6)


@given(st.integers(1, 70), st.integers(1, 90), st.floats(0.1, 6))
def test_attention_is_softmax_whatever_the_scores(queries: int, keys: int, size: float) -> None:
    rng = np.random.default_rng(queries)
    shapes = ((1, 2, queries, 8), (1, 2, keys, 8), (1, 2, keys, 8))
    arrays = [size * rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    found = np.array(attention.attend(*map(mx.array, arrays)))
    q, k, v = (torch.from_numpy(array) for array in arrays)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4 * size)


sides = st.integers(1, 6).map(lambda side: 2 * side)


@given(st.integers(1, 5), sides, sides)
def test_latents_come_back_from_tokens(channels: int, height: int, width: int) -> None:
    latents = np.random.default_rng(0).standard_normal((channels, height, width))
    tokens = layout.packed(latents)
    assert tokens.shape == (1, height * width // 4, 4 * channels)
    assert np.array_equal(layout.unpacked(tokens, height, width), latents)
    assert len(layout.picture_places(height, width)) == tokens.shape[1]


@given(st.integers(0, 12), st.floats(0, 0.01))
def test_all_pieces_are_computed_whatever_the_slice(count: int, seconds: float) -> None:
    def pieces() -> Pieces:
        total = mx.array(0)
        for number in range(count):
            total = total + number
            yield total
        return total

    pace = Pace(seconds)
    for _ in range(3):
        assert run(pieces(), pace) == sum(range(count))


def test_a_slice_ends_in_time() -> None:
    def pieces(count: int) -> Pieces:
        product = mx.ones((400, 400))
        for _ in range(count):
            product = product @ mx.ones((400, 400)) / 400
            yield product
        return product

    assert len(list(Pace(0.0).run(pieces(10)))) == 11
    assert len(list(Pace(60.0).run(pieces(10)))) == 0


@given(st.lists(st.integers(0, 5)))
def test_only_the_last_few_are_kept(keys: list[int]) -> None:
    recent: Recent[int, int] = Recent(2)
    for key in keys:
        recent.put(key, -key)
    last = list(dict.fromkeys(reversed(keys)))
    assert [recent.get(key) for key in last[:2]] == [-key for key in last[:2]]
    assert all(recent.get(key) is None for key in last[2:])


def test_a_reference_is_shown_in_a_size_that_kontext_knows() -> None:
    assert kontext_size(1000, 1000) == (1024, 1024)
    assert kontext_size(1920, 1080) == (1392, 752)
    assert kontext_size(1080, 1920) == (752, 1392)
    assert kontext_size(10_000, 1) == (1568, 672)
