"""What holds where a request for a picture is silent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.config.settings import ApiSettings, EngineSettings, ModelSettings
from mlxsrv.core.errors import LoadError
from mlxsrv.core.image import ImageFacts
from mlxsrv.engines.image_load import defaults, options_of

SCHNELL = ImageFacts(
    width=1024,
    height=1024,
    multiple=16,
    steps=4,
    guidance=None,
    negative_prompt=False,
    inputs=1,
    references=False,
    masks=True,
)


def of(facts: ImageFacts, bounds: dict[str, Any] | None = None, **own: Any) -> ImageFacts:
    settings = ModelSettings(path="x", **own)
    return defaults("flux", facts, settings, ApiSettings(**(bounds or {})))


def test_the_configuration_beats_the_model() -> None:
    assert of(SCHNELL) == SCHNELL
    found = of(SCHNELL, default_size="512x768", steps=2)
    assert (found.width, found.height, found.steps, found.guidance) == (512, 768, 2, None)


@pytest.mark.parametrize(
    ("bounds", "own", "words"),
    [
        ({}, {"default_size": "512x500"}, "default_size: sides have to be multiples of 16"),
        ({}, {"default_size": "0x512"}, "default_size: sides have to be multiples of 16"),
        ({}, {"default_size": "4112x16"}, "default_size: 4112x16 is more than max_image_side"),
        ({}, {"default_size": "4096x2048"}, "or max_image_pixels, 4194304, allow"),
        ({"max_image_steps": 8}, {"steps": 9}, "steps: more than max_image_steps, 8"),
        ({}, {"guidance": 3.5}, "guidance: this model heeds none"),
    ],
)
def test_what_can_not_hold(bounds: dict[str, Any], own: dict[str, Any], words: str) -> None:
    with pytest.raises(LoadError, match=f"flux: .*{words}"):
        of(SCHNELL, bounds, **own)


def test_weights_are_packed_on_mlx_only() -> None:
    own = ModelSettings(path="x", quantize=4)
    options = options_of("flux", own, "mlx", EngineSettings(slice_ms=20), staged=True)
    assert (options.quantize, options.staged, options.slice_seconds) == (4, True, 0.02)
    with pytest.raises(LoadError, match="quantize: weights are packed on the mlx backend"):
        options_of("flux", own, "torch", EngineSettings(), staged=False)


@given(
    width=st.integers(1, 256),
    height=st.integers(1, 256),
    side=st.integers(16, 4096),
    pixels=st.integers(256, 8_000_000),
)
def test_a_size_of_the_models_own_is_brought_inside_the_bounds(
    width: int, height: int, side: int, pixels: int
) -> None:
    own = ImageFacts(16 * width, 16 * height, 16, 4, None, False, 0, False, False)
    found = of(own, {"max_image_side": side, "max_image_pixels": pixels})
    assert found.width % 16 == found.height % 16 == 0
    assert 16 <= found.width <= max(16, min(side, own.width))
    assert 16 <= found.height <= max(16, min(side, own.height))
    narrow = min(found.width, found.height) == 16
    assert narrow or found.width * found.height <= pixels
