"""What a picture says of how it was made."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mlxsrv import __version__

SOFTWARE = f"mlxsrv {__version__}"


@dataclass(frozen=True, slots=True)
class Notes:
    """How a picture was made; what is None did not matter. `strength` of an edit."""

    prompt: str
    model: str
    seed: int
    steps: int
    width: int
    height: int
    guidance: float | None = None
    negative_prompt: str | None = None
    strength: float | None = None


def as_parameters(notes: Notes) -> str:
    """In the form that AUTOMATIC1111's stable-diffusion-webui writes and many programs read."""
    lines = [notes.prompt]
    if notes.negative_prompt:
        lines.append(f"Negative prompt: {notes.negative_prompt}")
    facts = {
        "Steps": notes.steps,
        "Sampler": "Euler",
        "CFG scale": notes.guidance,
        "Seed": notes.seed,
        "Size": f"{notes.width}x{notes.height}",
        "Denoising strength": notes.strength,
        "Model": notes.model,
        "Version": SOFTWARE,
    }
    lines.append(", ".join(f"{name}: {fact}" for name, fact in facts.items() if fact is not None))
    return "\n".join(lines)


def as_json(notes: Notes) -> str:
    facts = {
        "prompt": notes.prompt,
        "negative_prompt": notes.negative_prompt,
        "model": notes.model,
        "seed": notes.seed,
        "steps": notes.steps,
        "guidance": notes.guidance,
        "strength": notes.strength,
        "size": f"{notes.width}x{notes.height}",
        "software": SOFTWARE,
    }
    given = {name: fact for name, fact in facts.items() if fact is not None}
    return json.dumps(given, ensure_ascii=False)
