"""Write the trained model as a folder of FLUX.1's layout."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline
from transformers import CLIPTokenizer, T5TokenizerFast

from .model import Painter


def _write_clip_tables(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the two files that programs without ``tokenizer.json`` read."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = [" ".join(merge) for merge in model["merges"]]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    text = "\n".join(["#version: 0.2", *merges, ""])
    (folder / "merges.txt").write_text(text, encoding="utf-8")


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _tidy(folder: Path) -> None:
    """Give the tokenizer the name that it has in FLUX.1's folder, and forget where the VAE was."""
    name = ["transformers", "T5TokenizerFast"]
    _edit(folder / "model_index.json", lambda index: index.update(tokenizer_2=name))
    _edit(folder / "vae" / "config.json", lambda config: config.pop("_name_or_path", None))


def export(
    painter: Painter,
    vae: AutoencoderKL,
    clip: CLIPTokenizer,
    t5: T5TokenizerFast,
    normal: tuple[float, float],
    out: Path,
) -> None:
    """Write the folder in float16 and put it in place at once, keeping the card there.

    ``normal`` is the shift and the scale with which the latents were trained on.
    """
    vae.register_to_config(shift_factor=normal[0], scaling_factor=normal[1])
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0),
        vae=vae,
        text_encoder=painter.clip,
        tokenizer=clip,
        text_encoder_2=painter.t5,
        tokenizer_2=t5,
        transformer=painter.transformer,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as name:
        new, old = Path(name) / "new", Path(name) / "old"
        pipeline.to(torch.float16).save_pretrained(new)
        vae.float()
        _write_clip_tables(clip, new / "tokenizer")
        _tidy(new)
        if out.exists():
            card = out / "README.md"
            if card.exists():
                shutil.copy(card, new)
            out.rename(old)
        new.rename(out)
