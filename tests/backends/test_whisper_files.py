"""Whisper's small files and names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mlxsrv.backends import checkpoint
from mlxsrv.backends.whisper_files import our_name, read_sizes, sinusoids
from mlxsrv.core.kinds import Kind

LARGE_V3_TURBO = {
    "n_mels": 128,
    "n_audio_ctx": 1500,
    "n_audio_state": 1280,
    "n_audio_head": 20,
    "n_audio_layer": 32,
    "n_vocab": 51866,
    "n_text_ctx": 448,
    "n_text_state": 1280,
    "n_text_head": 20,
    "n_text_layer": 4,
}


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("model.encoder.conv1.bias", "encoder.conv1.bias"),
        ("encoder.blocks.3.attn.query.weight", "encoder.layers.3.self_attn.q_proj.weight"),
        ("decoder.blocks.0.cross_attn.out.scales", "decoder.layers.0.encoder_attn.out_proj.scales"),
        ("decoder.blocks.11.mlp_ln.bias", "decoder.layers.11.final_layer_norm.bias"),
        ("decoder.ln.weight", "decoder.layer_norm.weight"),
        ("encoder.ln_post.weight", "encoder.layer_norm.weight"),
        ("decoder.positional_embedding", "decoder.embed_positions.weight"),
        ("decoder.token_embedding.weight", "decoder.embed_tokens.weight"),
        ("proj_out.weight", None),
        ("alignment_heads", None),
    ],
)
def test_names(published: str, ours: str | None) -> None:
    assert our_name(published) == ours


def test_a_folder_that_says_only_its_sizes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LARGE_V3_TURBO))
    np.savez(tmp_path / "weights.npz", **{"a": np.zeros((3, 5), np.float16)})  # type: ignore[arg-type]
    found = checkpoint.read(tmp_path)
    assert (found.kind, found.dtype, found.parameters) == (Kind.STT, "float16", 15)
    assert (found.weight_bytes, found.float_items) == (30, 15)
    sizes = read_sizes(tmp_path)
    assert (sizes.audio_layers, sizes.text_layers, sizes.text_inner) == (32, 4, 5120)


def test_positions_are_those_of_transformers() -> None:
    from transformers.models.whisper.modeling_whisper import sinusoids as theirs

    np.testing.assert_allclose(sinusoids(1500, 64), theirs(1500, 64).numpy(), atol=1e-3)
