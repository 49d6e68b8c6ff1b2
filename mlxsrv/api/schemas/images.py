"""Pictures: the requests in OpenAI's shapes and in Cake's, and their answers."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AliasChoices, ConfigDict, Field, PlainValidator, model_validator
from typing_extensions import TypedDict

from mlxsrv.api.schemas.fields import Body, Flag, Integer, Number, Text
from mlxsrv.api.schemas.unserved import refuse
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.media.image_encode import BEST, ImageFormat
from mlxsrv.media.image_fit import Size

MULTIPLE = 16
"""Of which both sides are multiples, for every model."""

RANDOM_SEED = -1
"""What programs for pictures send for no seed."""

_SIZE = re.compile(r"(\d{1,6})[xX](\d{1,6})")


def _size(value: Any) -> Size | None:
    if value is None or value == "auto":
        return None
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidRequest("size: should be WIDTHxHEIGHT, or 'auto'", param="size")
    return checked_size(int(found[1]), int(found[2]), "size")


def checked_size(width: int, height: int, param: str) -> Size:
    """Raises InvalidRequest unless pictures can have it at all."""
    if min(width, height) < MULTIPLE or width % MULTIPLE or height % MULTIPLE:
        raise InvalidRequest(
            f"{param}: width and height should be multiples of {MULTIPLE}, not {width}x{height}",
            param=param,
        )
    return width, height


def _quality(value: Any) -> None:
    """Names differ from model to model, and none of ours has any."""
    if value is not None and not isinstance(value, str):
        raise InvalidRequest("quality: should be a string", param="quality")


_SizeText = Annotated[str, Field(pattern=f"^(auto|{_SIZE.pattern})$")]
PictureSize = Annotated[Size | None, PlainValidator(_size, json_schema_input_type=_SizeText | None)]
Quality = Annotated[None, PlainValidator(_quality, json_schema_input_type=Text | None)]
Steps = Annotated[Integer, Field(ge=1)]
Guidance = Annotated[Number, Field(ge=0, le=100)]
Strength = Annotated[Number, Field(ge=0, le=1)]
Seed = Annotated[Integer, Field(ge=-(2**63), lt=2**64)]


class PictureFields(Body):
    """What all of OpenAI's routes for pictures take; null stands for a field left out.

    The first of several names is ours or OpenAI's, the others are what other servers call it.
    """

    model_config = ConfigDict(extra="allow")  # kept for a look at their names

    unserved: ClassVar[frozenset[str]] = frozenset(
        {
            "width",
            "height",
            "frame_count",
            "frame_duration_ms",
            "svg",
            "markup",
            "true_cfg_scale",
            "lora",
            "loras",
            "scheduler",
            "sampler",
            "controlnet",
        }
    )
    """Fields that would change the picture, of OpenAI and of other servers."""

    prompt: Text = Field("", description="what the picture shows")
    model: Text | None = Field(None, description="served name or alias")
    n: Annotated[Integer, Field(ge=1)] | None = Field(None, description="how many (default: 1)")
    size: PictureSize = Field(None, description=f"WxH, multiples of {MULTIPLE}; or auto")
    seed: Seed | None = Field(None, description="makes it repeatable; -1: any")
    steps: Steps | None = Field(
        None, validation_alias=AliasChoices("steps", "num_inference_steps", "step")
    )
    guidance: Guidance | None = Field(
        None,
        validation_alias=AliasChoices("guidance", "guidance_scale", "cfg_scale"),
        description="how closely to follow the prompt, for models that heed it",
    )
    negative_prompt: Text | None = Field(None, description="what not to show, likewise")
    response_format: Literal["b64_json", "png", "url"] | None = Field(
        None, description="JSON, or the file; left out: JSON where Accept asks for it"
    )
    output_format: ImageFormat | None = None
    output_compression: Annotated[Integer, Field(ge=0, le=BEST)] | None = Field(
        None, description="quality of JPEG and WebP (default: 100)"
    )
    stream: Flag | None = Field(None, description="events, with the picture as it emerges")
    partial_images: Annotated[Integer, Field(ge=0, le=3)] | None = None
    progress: Flag | None = Field(None, description="an event for each step, too")
    quality: Quality = None
    style: Literal["vivid", "natural"] | None = None
    background: Literal["transparent", "opaque", "auto"] | None = None
    moderation: Literal["low", "auto"] | None = None
    user: Text | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if name in self.unserved and value is not None:
                raise refuse(name)
        if self.stream and self.response_format == "png":
            raise InvalidRequest(
                "response_format: a stream holds pictures as b64_json", param="response_format"
            )
        for name in ("partial_images", "progress"):
            if getattr(self, name) and not self.stream:
                raise InvalidRequest(f"{name}: is only allowed when `stream` is true", param=name)
        if self.response_format == "png" and self.format != "png":
            raise InvalidRequest(
                "output_format: response_format is png; leave that out for other files",
                param="output_format",
            )
        if self.format == "png" and self.output_compression not in (None, BEST):
            raise InvalidRequest(
                "output_compression: PNG is always lossless", param="output_compression"
            )
        return self

    @property
    def format(self) -> ImageFormat:
        return self.output_format or "png"

    @property
    def compression(self) -> int:
        return BEST if self.output_compression is None else self.output_compression


class ImageBody(PictureFields):
    """A picture of what a text says."""

    unserved: ClassVar[frozenset[str]] = PictureFields.unserved | {
        "image",
        "images",
        "image_url",
        "mask",
        "strength",
    }

    prompt: Text = Field(description="what the picture shows")

    @model_validator(mode="after")
    def _check_prompt(self) -> Self:
        check_prompt(self.prompt)
        return self


class EditFields(PictureFields):
    """What is to become of one or more pictures; all come as text in a form."""

    prompt: Text = Field(description="what the picture shows then")
    strength: Strength | None = Field(
        None, description="how much may change (default: 0.75, and all of what a mask marks)"
    )
    input_fidelity: Literal["high", "low"] | None = None

    @model_validator(mode="after")
    def _check_prompt(self) -> Self:
        check_prompt(self.prompt)
        return self


class VariationFields(PictureFields):
    """Others like a picture; all come as text in a form."""

    strength: Strength | None = Field(None, description="how much may change (default: 0.6)")


def check_prompt(prompt: str, param: str = "prompt") -> None:
    """Raises InvalidRequest."""
    if not prompt.strip():
        raise InvalidRequest(f"{param}: is empty", param=param)


class ImageArgs(Body):
    """Cake's arguments. Those that it takes from a program's command line have no place in a
    request; the ones that would change the picture are refused, the others do nothing."""

    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", "-"))

    prompt: Text
    sd_uncond_prompt: Text | None = None
    sd_width: Annotated[Integer, Field(ge=1)] | None = None
    sd_height: Annotated[Integer, Field(ge=1)] | None = None
    n_steps: Steps | None = None
    sd_num_samples: Annotated[Integer, Field(ge=1)] | None = None
    sd_bsize: Annotated[Integer, Field(ge=1)] | None = Field(None, description="pictures a sample")
    guidance_scale: Guidance | None = None
    sd_img2img: Text | None = Field(None, description="the picture to begin with, base64")
    sd_img2img_strength: Strength | None = Field(None, description="default: 0.75")
    image_seed: Seed | None = None
    sd_intermediary_images: Any = Field(None, description="only 0 is served")
    sd_version: Any = Field(None, description="not served: the model says it")
    sd_tracing: Any = None
    sd_use_flash_attn: Any = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_prompt(self.prompt, "image_args.prompt")
        for name in ("sd_intermediary_images", "sd_version"):
            if getattr(self, name):
                raise refuse(f"image_args.{name.replace('_', '-')}")
        if (self.sd_width is None) != (self.sd_height is None):
            missing = "sd-width" if self.sd_width is None else "sd-height"
            raise InvalidRequest(
                f"image_args.{missing}: is required with the other side",
                param=f"image_args.{missing}",
            )
        return self

    @property
    def size(self) -> Size | None:
        """Raises InvalidRequest."""
        if self.sd_width is None or self.sd_height is None:
            return None
        return checked_size(self.sd_width, self.sd_height, "image_args.sd-width")

    @property
    def n(self) -> int:
        return (self.sd_num_samples or 1) * (self.sd_bsize or 1)


class CakeImageBody(Body):
    image_args: ImageArgs
    response_format: Literal["b64_json", "png"] | None = None
    model: Text | None = Field(None, description="served name or alias")


class CakeImages(TypedDict):
    images: list[str]


class TokenDetails(TypedDict):
    image_tokens: int
    text_tokens: int


class ImageUsage(TypedDict):
    """A token of a picture is a square of 16 pixels' side; of text there is one in about four
    characters."""

    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int
    output_tokens_details: TokenDetails
    total_tokens: int


class ImageObject(TypedDict):
    b64_json: str
    seed: int


class Images(TypedDict):
    created: int
    data: list[ImageObject]
    background: Literal["opaque"]
    output_format: ImageFormat
    size: str
    usage: ImageUsage
