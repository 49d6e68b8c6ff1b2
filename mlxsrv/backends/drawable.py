"""Whether a model can draw what is asked."""

from __future__ import annotations

from mlxsrv.core.errors import InvalidRequest, Unsupported
from mlxsrv.core.image import Drawing, ImageFacts

LEAST_SIDE = 64
MOST_OBLONG = 8
"""The least side of a picture to look at, and how many times the other it may be: FLUX.2's."""


def require_drawable(drawing: Drawing, facts: ImageFacts) -> None:
    """Raises InvalidRequest, Unsupported where no drawing of the kind can be had."""
    sides = drawing.width, drawing.height
    if any(side < facts.multiple or side % facts.multiple for side in sides):
        raise InvalidRequest(
            f"the model draws sides of a multiple of {facts.multiple} pixels", param="size"
        )
    if drawing.steps < 1:
        raise InvalidRequest("a picture takes at least one step", param="steps")
    if drawing.negative_prompt and not facts.negative_prompt:
        raise Unsupported("this model heeds no negative prompt", param="negative_prompt")
    _require_pictures(drawing, facts)


def require_picture(drawing: Drawing) -> None:
    """For models that can't do without. Raises InvalidRequest."""
    if not drawing.images:
        raise InvalidRequest("this model changes pictures: send one", param="image")


def require_hole(drawing: Drawing) -> None:
    """For models that draw only what a mask marks. Raises InvalidRequest."""
    if drawing.mask is None:
        raise InvalidRequest(
            "this model fills masked parts of a picture: send one and a mask",
            param="mask" if drawing.images else "image",
        )


def _require_pictures(drawing: Drawing, facts: ImageFacts) -> None:
    size = drawing.height, drawing.width
    if len(drawing.images) > facts.inputs:
        allowed = f"at most {facts.inputs}" if facts.inputs else "no"
        raise Unsupported(f"this model takes {allowed} input pictures", param="image")
    if facts.references and not all(_is_visible(*picture.shape[:2]) for picture in drawing.images):
        raise InvalidRequest(
            f"a picture to look at has sides of {LEAST_SIDE} pixels at least, of which none is "
            f"over {MOST_OBLONG} times the other",
            param="image",
        )
    if not facts.references and any(picture.shape[:2] != size for picture in drawing.images):
        raise InvalidRequest("the input picture has another size", param="image")
    if drawing.mask is None:
        return
    if not facts.masks:
        raise Unsupported("this model keeps no part of a picture", param="mask")
    if not drawing.images:
        raise InvalidRequest("a mask needs the picture that it is for", param="image")
    if drawing.mask.shape != size:
        raise InvalidRequest("the mask has another size than the picture", param="mask")


def _is_visible(height: int, width: int) -> bool:
    shorter, longer = sorted((height, width))
    return shorter >= LEAST_SIDE and longer <= MOST_OBLONG * shorter
