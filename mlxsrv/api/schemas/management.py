"""Models and adapters that come and go: requests and answers."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired
from unicodedata import category

from pydantic import AfterValidator, AliasChoices, Field
from typing_extensions import TypedDict

from mlxsrv.api.schemas.fields import Body, Flag, Number, Text
from mlxsrv.core.kinds import Kind

MAX_NAME = 256
MAX_PATH = 4096
MAX_SCALE = 100.0
MAX_SECONDS = 1e9
"""Some thirty years, and well inside what timers can count."""


def _path(value: str) -> str:
    if not value.strip():
        raise ValueError("should not be empty")
    if len(value) > MAX_PATH:
        raise ValueError(f"should have at most {MAX_PATH} characters")
    if any(category(character) == "Cc" for character in value):
        raise ValueError("should hold no control characters")
    return value


def _name(value: str) -> str:
    if len(_path(value)) > MAX_NAME:
        raise ValueError(f"should have at most {MAX_NAME} characters")
    if value != value.strip() or not value.isprintable():
        raise ValueError("should hold visible characters, and no blanks around them")
    return value


Name = Annotated[Text, AfterValidator(_name)]
PathText = Annotated[Text, AfterValidator(_path)]
Seconds = Annotated[Number, Field(ge=0, le=MAX_SECONDS)]
Scale = Annotated[Number, Field(ge=-MAX_SCALE, le=MAX_SCALE)]


class LoadModelRequest(Body):
    model: PathText = Field(description="served name, hub id, or folder")
    name: Name | None = Field(None, description="name to serve it by")
    kind: Kind | None = Field(None, description="what it serves (default: read from the files)")
    ttl: Seconds | None = Field(None, description="unload after this many idle seconds")
    pin: Flag | None = Field(None, description="never unload under memory pressure")
    stream: Flag | None = Field(None, description="progress as server-sent events")


class UnloadModelRequest(Body):
    model: Name = Field(description="served name, alias or adapter")
    timeout: Seconds | None = Field(
        None, description="end its requests after this many seconds (default: wait for them)"
    )


class LoadAdapterRequest(Body):
    """`base_model_name` is what vLLM's clients call `model`."""

    model: Name | None = Field(
        None,
        validation_alias=AliasChoices("model", "base_model_name"),
        description="the base (default: the first text model)",
    )
    lora_name: Name = Field(description="name to serve the adapter by")
    lora_path: PathText = Field(description="the adapter's folder, safetensors file, or hub id")
    scale: Scale | None = Field(None, description="strength; 1: as published")


class UnloadAdapterRequest(Body):
    model: Name | None = Field(None, description="its base")
    lora_name: Name


class ImageObject(TypedDict):
    """What holds for a picture where a request is silent: `size` in pixels, whose sides are
    multiples of `multiple`. `inputs` is how many pictures an edit may start from."""

    size: str
    multiple: int
    steps: int
    guidance: float | None
    negative_prompt: bool
    edits: bool
    inputs: int
    masks: bool


class ModelObject(TypedDict):
    """OpenAI's fields, then ours. Bytes, seconds, tokens; `requests` are those in flight. The last
    three are of models that speak or draw, once they have been in memory."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    type: str
    state: str
    parent: str | None
    aliases: list[str]
    memory_bytes: int | None
    context_length: int | None
    backend: str | None
    quantization: str | None
    description: str | None
    requests: int
    idle_seconds: float | None
    ttl: float | None
    pin: bool
    sample_rate: NotRequired[int]
    cloning: NotRequired[bool]
    image: NotRequired[ImageObject]


class MemoryObject(TypedDict):
    """Bytes; `held` by what for."""

    budget_bytes: int
    held: dict[str, int]


class ModelList(TypedDict):
    object: Literal["list"]
    data: list[ModelObject]
    memory: MemoryObject


class ModelDeleted(TypedDict):
    """OpenAI's answer to a deletion; `memory_bytes` is what the model had held."""

    id: str
    object: Literal["model"]
    deleted: Literal[True]
    memory_bytes: int | None


class LoadProgressEvent(TypedDict):
    """`done` and `total` in bytes; `progress` from 0 to 1 where the total is known."""

    object: Literal["model.load.progress"]
    model: str
    stage: Literal["waiting", "download", "load"]
    done: int
    total: int | None
    progress: float | None


class AdapterObject(TypedDict):
    """`model` is the base that the adapter belongs to."""

    id: str
    object: Literal["lora"]
    model: str
    path: str
    scale: float
    rank: int
    memory_bytes: int
    state: str
    deleted: NotRequired[Literal[True]]


class AdapterList(TypedDict):
    object: Literal["list"]
    data: list[AdapterObject]
