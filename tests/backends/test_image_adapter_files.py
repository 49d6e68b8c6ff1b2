"""Reading LoRA of image models: every trainer's names, as diffusers itself converts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mlxsrv.backends.adapter import Adapter, fitted
from mlxsrv.backends.image_adapter_files import read_image_adapter
from mlxsrv.core.errors import InvalidRequest
from tests.tiny_adapters import Recipe, write_peft
from tests.tiny_image_adapters import matrices, named

Gains = dict[str, NDArray[np.float32]]

HIDDEN = 8
FLUX = 3072
"""The only width for which diffusers splits a single block's first layer."""
ALPHA = 8.0

DOUBLE = {
    "img_attn.qkv": (HIDDEN, 3 * HIDDEN),
    "img_attn.proj": (HIDDEN, HIDDEN),
    "img_mlp.0": (HIDDEN, 4 * HIDDEN),
    "img_mlp.2": (4 * HIDDEN, HIDDEN),
    "img_mod.lin": (HIDDEN, 6 * HIDDEN),
    "txt_attn.qkv": (HIDDEN, 3 * HIDDEN),
    "txt_attn.proj": (HIDDEN, HIDDEN),
    "txt_mlp.0": (HIDDEN, 4 * HIDDEN),
    "txt_mlp.2": (4 * HIDDEN, HIDDEN),
    "txt_mod.lin": (HIDDEN, 6 * HIDDEN),
}
SINGLE = {
    "linear1": (FLUX, 7 * FLUX),
    "linear2": (5 * HIDDEN, HIDDEN),
    "modulation.lin": (HIDDEN, 3 * HIDDEN),
}
OUTER = {
    "img_in": (4, HIDDEN),
    "txt_in": (6, HIDDEN),
    "time_in.in_layer": (4, HIDDEN),
    "time_in.out_layer": (HIDDEN, HIDDEN),
    "vector_in.in_layer": (4, HIDDEN),
    "vector_in.out_layer": (HIDDEN, HIDDEN),
    "guidance_in.in_layer": (4, HIDDEN),
    "guidance_in.out_layer": (HIDDEN, HIDDEN),
}
FINAL = {
    "final_layer.linear": (HIDDEN, 4),
    "final_layer.adaLN_modulation.1": (HIDDEN, 2 * HIDDEN),
}


def blocks(double: int, single: int) -> dict[str, tuple[int, int]]:
    """The layers of so many blocks, as Black Forest Labs names them."""
    found = {f"double_blocks.{n}.{name}": s for n in range(double) for name, s in DOUBLE.items()}
    return found | {
        f"single_blocks.{n}.{name}": s for n in range(single) for name, s in SINGLE.items()
    }


def read(folder: Path, tensors: dict[str, Any], metadata: dict[str, str] | None = None) -> Adapter:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "lora.safetensors", metadata)
    return read_image_adapter(folder)


def gains(adapter: Adapter) -> Gains:
    """What each layer's outputs gain for some inputs."""
    return {
        path: np.float32(layer.scale) * (layer.b @ (layer.a @ some_inputs(layer.sizes[0])))
        for path, layer in adapter.layers.items()
    }


def some_inputs(size: int) -> NDArray[np.float32]:
    return np.random.default_rng(5).standard_normal((size, 3)).astype(np.float32)


def of_diffusers(tensors: dict[str, Any]) -> Gains:
    """The same as diffusers' own reader has them."""
    import torch
    from diffusers import FluxPipeline

    given = {name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}
    state, alphas = FluxPipeline.lora_state_dict(given, return_alphas=True)
    found: Gains = {}
    for name, value in state.items():
        path, mark, _ = name.partition(".lora_A.")
        if mark:
            a, b = value.numpy(), state[name.replace("lora_A", "lora_B")].numpy()
            scale = float((alphas or {}).get(f"{path}.alpha", len(a))) / len(a)
            gain = b @ (a @ some_inputs(a.shape[1]))
            found[path.removeprefix("transformer.")] = np.float32(scale) * gain
    return found


def assert_same(ours: Gains, theirs: Gains) -> None:
    assert ours.keys() == theirs.keys()
    for path, gain in theirs.items():
        assert np.allclose(ours[path], gain, rtol=1e-4, atol=1e-4), path


def test_kohya(tmp_path: Path) -> None:
    style: dict[str, Any] = {
        "before": "lora_unet_",
        "parts": ("lora_down", "lora_up"),
        "flat": True,
    }
    tensors = named(matrices(blocks(2, 1) | OUTER), alpha=ALPHA, **style)
    tensors |= named(matrices(FINAL), **style)
    assert_same(gains(read(tmp_path, tensors)), of_diffusers(tensors))


def test_kohya_with_a_matrix_for_each_of_q_k_and_v(tmp_path: Path) -> None:
    size = {"double_blocks_0_img_attn_qkv": (HIDDEN, 3 * HIDDEN)}
    ((path, (a, b)),) = matrices(size, rank=6).items()
    for piece in range(3):
        rows = slice(piece * HIDDEN, (piece + 1) * HIDDEN)
        b[rows, : 2 * piece] = 0
        b[rows, 2 * piece + 2 :] = 0
    tensors = named({path: (a, b)}, before="lora_unet_", parts=("lora_down", "lora_up"))
    assert_same(gains(read(tmp_path, tensors)), of_diffusers(tensors))


def test_comfyui(tmp_path: Path) -> None:
    tensors = named(
        matrices(blocks(1, 1)),
        before="diffusion_model.",
        parts=("lora_down", "lora_up"),
        alpha=ALPHA,
    )
    assert_same(gains(read(tmp_path, tensors)), of_diffusers(tensors))


def test_kohya_with_diffusers_names(tmp_path: Path) -> None:
    sizes = {
        "transformer_blocks.0.attn.to_q": (HIDDEN, HIDDEN),
        "transformer_blocks.11.attn.add_k_proj": (HIDDEN, HIDDEN),
        "transformer_blocks.0.attn.to_out.0": (HIDDEN, HIDDEN),
        "single_transformer_blocks.3.attn.to_v": (HIDDEN, HIDDEN),
        "context_embedder": (HIDDEN, HIDDEN),
        "norm_out.linear": (HIDDEN, 2 * HIDDEN),
        "time_text_embed.timestep_embedder.linear_2": (HIDDEN, HIDDEN),
    }
    tensors = named(
        matrices(sizes),
        before="lora_transformer_",
        parts=("lora_down", "lora_up"),
        flat=True,
        alpha=ALPHA,
    )
    assert_same(gains(read(tmp_path, tensors)), of_diffusers(tensors))


def test_xlabs(tmp_path: Path) -> None:
    sizes = {
        "double_blocks.0.processor.qkv_lora1": (HIDDEN, 3 * HIDDEN),
        "double_blocks.0.processor.qkv_lora2": (HIDDEN, 3 * HIDDEN),
        "double_blocks.0.processor.proj_lora1": (HIDDEN, HIDDEN),
        "double_blocks.0.processor.proj_lora2": (HIDDEN, HIDDEN),
        "single_blocks.7.processor.qkv_lora": (HIDDEN, 3 * HIDDEN),
        "single_blocks.7.processor.proj_lora": (5 * HIDDEN, HIDDEN),
    }
    tensors = named(matrices(sizes), before="", parts=("down", "up"))
    assert_same(gains(read(tmp_path, tensors)), of_diffusers(tensors))


def test_black_forest_labs_names_in_peft(tmp_path: Path) -> None:
    sizes = blocks(19, 38) | {"final_layer.linear": (HIDDEN, 4)}
    tensors = named(matrices(sizes, rank=1), before="base_model.model.")
    assert_same(gains(read(tmp_path, tensors)), of_diffusers(tensors))


def test_diffusers_with_alphas(tmp_path: Path) -> None:
    sizes = {"single_transformer_blocks.0.proj_mlp": (HIDDEN, 4 * HIDDEN), "proj_out": (HIDDEN, 4)}
    tensors = named(matrices(sizes), alpha=ALPHA)
    assert_same(gains(read(tmp_path, tensors)), of_diffusers(tensors))


def test_what_diffusers_saves_with_its_settings(tmp_path: Path) -> None:
    """Ranks and scales that differ by layer stand in the file's metadata."""
    import diffusers
    import torch
    from peft import LoraConfig, get_peft_model_state_dict

    flux: Any = diffusers.FluxTransformer2DModel
    model = flux(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=6,
        pooled_projection_dim=6,
        axes_dims_rope=(2, 2, 4),
    )
    config: Any = LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=["to_q", "to_k", "to_out.0", "proj_mlp", "x_embedder"],
        rank_pattern={"to_k": 2},
        alpha_pattern={"single_transformer_blocks.0.attn.to_k": 5},
        init_lora_weights=False,
        use_rslora=True,
    )
    model.add_adapter(config)
    pipeline: Any = diffusers.FluxPipeline
    pipeline.save_lora_weights(
        tmp_path,
        transformer_lora_layers=get_peft_model_state_dict(model),
        transformer_lora_adapter_metadata=config.to_dict() | {"target_modules": ["to_q"]},
    )
    expected = {
        path: module.get_delta_weight("default").detach().numpy() @ some_inputs(module.in_features)
        for path, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    assert len(expected) == 7
    adapter = read_image_adapter(tmp_path)
    assert_same(gains(adapter), expected)
    linears = {
        path.removesuffix(".base_layer"): (module.in_features, module.out_features)
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert fitted(adapter, linears).keys() == expected.keys()


def test_a_folder_of_peft(tmp_path: Path) -> None:
    write_peft(tmp_path, Recipe(targets=("q_proj",)))
    assert read_image_adapter(tmp_path, scale=0.5).layers["model.layers.0.self_attn.q_proj"]


def test_names_of_another_family_stay_as_they_are(tmp_path: Path) -> None:
    sizes = {"layers.0.attention.to_q": (4, 4), "transformer_blocks.0.img_mlp.net.2": (4, 4)}
    assert read(tmp_path, named(matrices(sizes))).layers.keys() == {"layers.0.attention.to_q"} | {
        "transformer_blocks.0.img_mlp.net.2"
    }


def test_a_file_is_as_good_as_its_folder(tmp_path: Path) -> None:
    tensors = named(matrices({"proj_out": (4, 4)}))
    adapter = read(tmp_path, tensors)
    (tmp_path / "lora.safetensors").rename(tmp_path / "pytorch_lora_weights.safetensors")
    save_file(named(matrices({"proj_out": (4, 4)}, seed=2)), tmp_path / "z.safetensors")
    assert_same(gains(read_image_adapter(tmp_path)), gains(adapter))
    file = tmp_path / "pytorch_lora_weights.safetensors"
    assert_same(gains(read_image_adapter(file)), gains(adapter))
    assert read_image_adapter(file, scale=0.25).layers["proj_out"].scale == 0.25


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    hidden=st.integers(1, 6),
    rest=st.integers(1, 9),
    rank=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_split_layers_together_are_the_whole(
    tmp_path: Path, hidden: int, rest: int, rank: int, seed: int
) -> None:
    sizes = {
        "single_blocks.0.linear1": (hidden, 3 * hidden + rest),
        "double_blocks.0.txt_attn.qkv": (hidden, 3 * rest),
    }
    whole = matrices(sizes, rank=rank, seed=seed)
    parts = gains(read(tmp_path, named(whole, before="")))
    single = [f"single_transformer_blocks.0.{name}" for name in ("attn.to_q", "attn.to_k")]
    single += [f"single_transformer_blocks.0.{name}" for name in ("attn.to_v", "proj_mlp")]
    double = [f"transformer_blocks.0.attn.add_{letter}_proj" for letter in "qkv"]
    for names, (a, b) in zip((single, double), whole.values(), strict=True):
        assert np.allclose(
            np.concatenate([parts[name] for name in names]),
            b @ (a @ some_inputs(a.shape[1])),
            atol=1e-4,
        )
    assert len(parts) == 7


def test_text_encoders_that_are_not_changed_are_passed_over(tmp_path: Path) -> None:
    name = "lora_te1_text_model_encoder_layers_0_mlp_fc1"
    tensors = named(matrices({"proj_out": (4, 4)}))
    tensors |= {f"{name}.lora_down.weight": np.ones((2, 4), "f4")}
    adapter = read(tmp_path, {**tensors, f"{name}.lora_up.weight": np.zeros((4, 2), "f4")})
    assert adapter.layers.keys() == {"proj_out"}
    with pytest.raises(InvalidRequest, match="changes a text encoder"):
        read(tmp_path, {**tensors, f"{name}.lora_up.weight": np.ones((4, 2), "f4")})


Q = "transformer.transformer_blocks.0.attn.to_q"


def ones(*shape: int) -> NDArray[np.float32]:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({f"{Q}.dora_scale": ones(4)}, "DoRA", id="dora"),
        pytest.param({f"{Q}.lora_magnitude_vector": ones(4)}, "DoRA", id="peft-dora"),
        pytest.param({"lora_unet_x.lokr_w1": ones(4, 4)}, "LoKr", id="lokr"),
        pytest.param({"lora_unet_x.hada_w1_a": ones(4, 4)}, "LoHa", id="loha"),
        pytest.param({f"{Q}.lora_B.bias": ones(4)}, "trained bias", id="bias"),
        pytest.param({"x.diff_b": ones(4)}, "difference", id="difference"),
        pytest.param({"double_blocks.0.img_attn.norm.query_norm.scale": ones(4)}, "norm", id="n"),
        pytest.param({"anything": ones(4)}, "no LoRA", id="other"),
        pytest.param({f"{Q}.lora_A.weight": ones(2, 4, 1, 1)}, "convolution", id="convolution"),
        pytest.param({f"{Q}.lora_A.weight": np.ones((2, 4))}, "stored as F64", id="dtype"),
        pytest.param({f"{Q}.lora_A.weight": ones(3, 4)}, "ranks", id="ranks"),
        pytest.param({f"{Q}.lora_A.weight": ones(0, 4)}, "ranks", id="rank-0"),
        pytest.param({f"{Q}.lora_A.weight": ones(2, 4) * np.nan}, "not finite", id="nan"),
        pytest.param({f"{Q}.alpha": ones(2)}, "not a number", id="alphas"),
        pytest.param(
            {f"{Q}.alpha": ones(1) * 6e4, f"{Q}.lora_B.weight": ones(4, 2) * 9}, "too", id="large"
        ),
        pytest.param({f"{Q}.lora_B.weight": None}, "lacks its matrix B", id="lonely"),
        pytest.param({f"{Q}.lora_down.weight": ones(2, 4)}, "two of A", id="twice"),
        pytest.param(
            named(
                {"lora_unet_transformer_blocks_0_attn_to_q": (ones(2, 4), ones(4, 2))}, before=""
            ),
            "are the same",
            id="same",
        ),
        pytest.param(
            named({"double_blocks.0.img_attn.qkv": (ones(2, 4), ones(10, 2))}), "do not fit", id="3"
        ),
        pytest.param(
            named({"single_blocks.0.linear1": (ones(2, 4), ones(12, 2))}), "do not fit", id="rest"
        ),
        pytest.param(
            named({"lora_unet_something_else": (ones(2, 4), ones(4, 2))}, before=""),
            "not a layer of a model",
            id="unknown",
        ),
    ],
)
def test_what_is_not_served_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    tensors = {f"{Q}.lora_A.weight": ones(2, 4), f"{Q}.lora_B.weight": ones(4, 2), **change}
    with pytest.raises(InvalidRequest, match=reason) as error:
        read(tmp_path, {name: value for name, value in tensors.items() if value is not None})
    assert error.value.param == "lora_path"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ("{", "not valid JSON"),
        ("[]", "JSON object"),
        (json.dumps({"transformer.r": 3}), "the rank of"),
        (json.dumps({"transformer.r": 2, "transformer.use_dora": True}), "use_dora"),
        (json.dumps({"transformer.r": 2, "transformer.lora_alpha": "8"}), "should be a number"),
    ],
)
def test_metadata_is_checked(tmp_path: Path, metadata: str, reason: str) -> None:
    tensors = named(matrices({"proj_out": (4, 4)}, rank=2))
    with pytest.raises(InvalidRequest, match=reason):
        read(tmp_path, tensors, {"lora_adapter_metadata": metadata})


def test_paths_that_hold_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no such adapter"):
        read_image_adapter(tmp_path / "missing")
    with pytest.raises(InvalidRequest, match="can't read xxx"):
        read_image_adapter(tmp_path / ("x" * 300))
    with pytest.raises(InvalidRequest, match="holds no safetensors file"):
        read_image_adapter(tmp_path)
    (tmp_path / "lora.ckpt").write_bytes(b"\x80")
    for path in (tmp_path, tmp_path / "lora.ckpt"):
        with pytest.raises(InvalidRequest, match="is pickled"):
            read_image_adapter(path)
    save_file({}, tmp_path / "a.safetensors")
    with pytest.raises(InvalidRequest, match="no LoRA matrices"):
        read_image_adapter(tmp_path)
    (tmp_path / "b.safetensors").write_bytes(bytes(7))
    with pytest.raises(InvalidRequest, match="several adapters"):
        read_image_adapter(tmp_path)
    with pytest.raises(InvalidRequest, match="shorter than its header"):
        read_image_adapter(tmp_path / "b.safetensors")
    (tmp_path / "b.txt").write_bytes(b"text")
    with pytest.raises(InvalidRequest, match="not a safetensors file"):
        read_image_adapter(tmp_path / "b.txt")


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_the_scale_is_a_number(tmp_path: Path, scale: float) -> None:
    with pytest.raises(InvalidRequest) as error:
        read_image_adapter(tmp_path, scale=scale)
    assert error.value.param == "scale"
