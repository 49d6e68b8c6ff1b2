"""From what a request says of its pictures to what the engine is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from mlxsrv.api.schemas.images import ImageUsage
from mlxsrv.config.settings import ApiSettings
from mlxsrv.core.errors import InvalidRequest, Unsupported
from mlxsrv.core.image import HALF, ImageFacts, ImageRequest, Mask
from mlxsrv.engines.model import ImageModel
from mlxsrv.media.image_decode import Picture
from mlxsrv.media.image_fit import Size, cover, cover_mask, nearest_size

DEFAULT_STRENGTH = 0.75
"""Of four steps it leaves one out; a little more would leave none, and forget the picture."""

NO_GUIDANCE = (0, 1)
"""What programs send that mean none."""

TOKEN_SIDE = 16
TOKEN_CHARACTERS = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for, whatever the route; None: as the model has it, and `usual_strength`.

    `own_mask`: where no mask is given it is what is transparent in the picture, if that is
    anything and the model heeds any.
    """

    prompt: str
    n: int = 1
    size: Size | None = None
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str | None = None
    strength: float | None = None
    usual_strength: float = DEFAULT_STRENGTH
    previews: int = 0
    pictures: tuple[Picture, ...] = ()
    mask: Mask | None = None
    own_mask: bool = False


def check_bounds(wanted: Wanted, api: ApiSettings) -> None:
    """What holds for every model. Raises InvalidRequest."""
    for name in ("prompt", "negative_prompt"):
        length = len(getattr(wanted, name) or "")
        if length > api.max_prompt_chars:
            raise _invalid(
                name, f"has {length} characters; this server takes at most {api.max_prompt_chars}"
            )
    if wanted.n > api.max_images:
        raise _invalid("n", f"should be at most {api.max_images}")
    if wanted.steps is not None and wanted.steps > api.max_image_steps:
        raise _invalid("steps", f"should be at most {api.max_image_steps}")
    if wanted.size is not None:
        _check_size(wanted.size, api)


def _check_size(size: Size, api: ApiSettings) -> None:
    width, height = size
    if max(size) > api.max_image_side:
        raise _invalid("size", f"each side should be at most {api.max_image_side}")
    if width * height > api.max_image_pixels:
        raise _invalid(
            "size", f"{width}x{height} is more than {api.max_image_pixels} pixels, the most here"
        )


def fitted(wanted: Wanted, model: ImageModel, api: ApiSettings) -> ImageRequest:
    """The request as this model takes it, its pictures brought to size: for a thread of its own.

    Raises InvalidRequest, and Unsupported for what the model can't do.
    """
    facts = model.image
    _check_abilities(wanted, facts, model.name)
    width, height = size = wanted.size or _usual_size(wanted, facts, api)
    if width % facts.multiple or height % facts.multiple:
        raise _invalid("size", f"the sides should be multiples of {facts.multiple}")
    mask = _mask(wanted, facts, size)
    return ImageRequest(
        prompt=wanted.prompt,
        width=width,
        height=height,
        steps=wanted.steps or facts.steps,
        n=wanted.n,
        seed=wanted.seed,
        guidance=_guidance(wanted, facts),
        negative_prompt=wanted.negative_prompt or None,
        images=tuple(
            picture.pixels if facts.references else cover(picture.pixels, size)
            for picture in wanted.pictures
        ),
        mask=mask,
        strength=_strength(wanted, mask),
        previews=wanted.previews,
        adapter=model.adapter,
    )


def marks(mask: Mask) -> bool:
    """Whether anything is to be made anew."""
    return bool((mask >= HALF).any())


def marks_nothing() -> InvalidRequest:
    return _invalid(
        "mask", "marks nothing to be made anew: that part should be transparent, or white"
    )


def usage(request: ImageRequest, pictures: int) -> ImageUsage:
    """What so many pictures took."""
    patches = request.width * request.height // TOKEN_SIDE**2
    text = -(-(len(request.prompt) + len(request.negative_prompt or "")) // TOKEN_CHARACTERS)
    shown, made = patches * len(request.images), patches * pictures
    return {
        "input_tokens": text + shown,
        "input_tokens_details": {"text_tokens": text, "image_tokens": shown},
        "output_tokens": made,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": made},
        "total_tokens": text + shown + made,
    }


def _check_abilities(wanted: Wanted, facts: ImageFacts, name: str) -> None:
    if len(wanted.pictures) > facts.inputs:
        most = f"at most {facts.inputs} pictures" if facts.inputs else "no pictures"
        raise Unsupported(f"image: {name} takes {most} to begin with", param="image")
    if wanted.mask is not None and not facts.masks:
        raise Unsupported(f"mask: {name} can't keep a part of a picture", param="mask")
    if wanted.strength is not None and facts.references:
        raise Unsupported(f"strength: {name} looks at pictures and draws anew", param="strength")
    if wanted.negative_prompt and not facts.negative_prompt:
        raise Unsupported(f"negative_prompt: {name} heeds none", param="negative_prompt")
    if facts.guidance is None and wanted.guidance not in (None, *NO_GUIDANCE):
        raise Unsupported(f"guidance: {name} heeds none", param="guidance")


def _mask(wanted: Wanted, facts: ImageFacts, size: Size) -> Mask | None:
    """In the size of the picture. Few pixels of a large mask may vanish on the way."""
    if wanted.mask is not None:
        mask = cover_mask(wanted.mask, size)
        if not marks(mask):
            raise marks_nothing()
        return mask
    if not (wanted.own_mask and facts.masks) or wanted.pictures[0].alpha is None:
        return None
    mask = cover_mask(wanted.pictures[0].mask, size)
    return mask if marks(mask) else None


def _strength(wanted: Wanted, mask: Mask | None) -> float:
    """What a mask marks may well be blank, so that nothing of it is to be kept."""
    if wanted.strength is not None:
        return wanted.strength
    return wanted.usual_strength if mask is None else 1.0


def _guidance(wanted: Wanted, facts: ImageFacts) -> float | None:
    if facts.guidance is None:
        return None
    return facts.guidance if wanted.guidance is None else wanted.guidance


def _usual_size(wanted: Wanted, facts: ImageFacts, api: ApiSettings) -> Size:
    """The model's own; of an edit, that of the picture, but no larger than the model's."""
    if not wanted.pictures:
        return facts.width, facts.height
    return nearest_size(
        wanted.pictures[0].size,
        multiple=facts.multiple,
        most_pixels=min(facts.width * facts.height, api.max_image_pixels),
        most_side=api.max_image_side,
    )


def _invalid(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: {reason}", param=param)
