"""Every setting of the server, its default and its bounds.

Each key of `[api]`, `[engine]`, `[memory]` and `[hub]` is also a flag (`max_queue` →
`--max-queue`) and a variable (`MLXSRV_MAX_QUEUE`), so a name is used in one section only.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
)

from mlxsrv.core.kinds import Kind

MEGABYTE = 1_000_000

Port = Annotated[int, Field(ge=0, le=65535)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
LogLevel = Literal["debug", "info", "warning", "error"]
BackendName = Literal["auto", "mlx", "torch"]


def split_address(address: str) -> tuple[str, int]:
    """`host:port` (`[::1]:8080` for IPv6) as a pair. Raises ValueError."""
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("should be HOST:PORT, such as 127.0.0.1:8080")
    return host, int(port)


def _address(value: str) -> str:
    split_address(value)
    return value


def _comma_list(value: object) -> object:
    """Flags and variables give lists as one comma-separated string."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _port_map(value: object) -> object:
    """Flags and variables give ports as `chat=8080,embedding=8081`."""
    if not isinstance(value, str):
        return value
    pairs = (part.partition("=") for part in value.split(",") if part.strip())
    return {kind.strip(): port.strip() for kind, _, port in pairs}


def _number(value: object) -> object:
    """Flags and variables give every number as text, which a choice of numbers does not read."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _ui_auth(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not all(value.get_secret_value().partition(":")):
        raise ValueError("should be USER:PASSWORD")
    return value


TextList = Annotated[tuple[str, ...], BeforeValidator(_comma_list)]
PathList = Annotated[tuple[Path, ...], BeforeValidator(_comma_list)]
Bits = Annotated[Literal[4, 8], BeforeValidator(_number)]


class Section(BaseModel):
    """Frozen, and strict about names: a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelSettings(Section):
    """One `[api.models.NAME]` entry; on the command line, the flags that go with one MODEL."""

    path: str = Field(min_length=1, description="folder, hub id, or built-in (demo, espeak)")
    type: Kind | None = Field(None, description="what it serves (default: read from the files)")
    context_length: int | None = Field(None, ge=1, description="bound on prompt plus answer")
    default_temperature: float | None = Field(None, ge=0.0, le=2.0)
    dimensions: int | None = Field(None, ge=1, description="embedding size to cut to")
    aliases: TextList = Field((), description="further names for this model")
    adapter: str | None = Field(None, description="LoRA folder or hub id")
    draft: str | None = Field(None, description="draft model for speculative decoding")
    chat_template: str | None = Field(None, description="Jinja file, or the template itself")
    voice_prompt: Path | None = Field(None, description="audio file whose voice is cloned")
    default_size: str | None = Field(None, pattern=r"^\d{1,5}x\d{1,5}$", description="WxH")
    steps: int | None = Field(None, ge=1, description="denoising steps where a request is silent")
    guidance: float | None = Field(
        None, ge=0.0, le=100.0, description="how closely pictures follow the prompt, likewise"
    )
    quantize: Bits | None = Field(None, description="pack an image model's weights: 4 or 8 bits")
    preview: Path | None = Field(
        None, description="small decoder (TAEF1) that shows what pictures will look like"
    )
    ttl: Seconds | None = Field(None, description="unload after this many idle seconds")
    pin: bool = Field(False, description="never unload under memory pressure")
    preload: bool = Field(True, description="load at start rather than on first use")


class ApiSettings(Section):
    """`[api]`: the HTTP surface."""

    enabled: bool = Field(True, description="false: the server refuses to start")
    address: Annotated[str, AfterValidator(_address)] = Field(
        "127.0.0.1:8080", description="HOST:PORT to listen on"
    )
    api_key: SecretStr | None = Field(None, min_length=1, description="key that callers must send")
    require_auth: bool = Field(False, description="refuse to start without an API key")
    ui_auth: Annotated[SecretStr | None, AfterValidator(_ui_auth)] = Field(
        None, description="USER:PASSWORD for the web UI and the topology"
    )
    max_requests_per_minute: int | None = Field(None, ge=1, description="per key or peer")
    max_tokens_per_minute: int | None = Field(None, ge=1, description="per key or peer")
    cors_enabled: bool = Field(False, description="answer browsers of other origins")
    cors_origins: TextList = Field((), description="origins browsers may call from (or *)")
    allowed_hosts: TextList = Field((), description="Host names accepted besides loopback")
    allow_unauthenticated: bool = Field(
        False, description="allow a non-loopback address without an API key"
    )
    fetch_urls: bool = Field(False, description="fetch http(s) image URLs of requests")
    max_queue: int = Field(256, ge=0, description="waiting requests per model before 503")
    max_body_bytes: ByteSize = Field(
        ByteSize(100 * MEGABYTE), ge=1, description="largest upload; JSON at most 25 MB of it"
    )
    files_dir: Path | None = Field(None, description="folder for /v1/files, made if missing")
    voices_dir: Path | None = Field(None, description="folder that voice_path may name files in")
    max_speech_chars: int = Field(10_000, ge=1, description="longest text to be spoken at once")
    max_prompt_chars: int = Field(32_000, ge=1, description="longest description of a picture")
    max_image_side: int = Field(4096, ge=16, description="pixels along a side of a picture")
    max_image_pixels: int = Field(4_194_304, ge=256, description="pixels of a picture, 2048x2048")
    max_image_steps: int = Field(100, ge=1, description="denoising steps of a picture")
    max_images: int = Field(10, ge=1, description="pictures that a request may ask for")
    image_metadata: bool = Field(True, description="tell in pictures how they were made")
    log_level: LogLevel = Field("info", description="how much is logged")
    drain_seconds: Seconds = Field(
        30.0, description="how long running requests may go on after SIGTERM"
    )
    supervise: bool = Field(True, description="restart the serving process when it dies")
    ports: Annotated[dict[Kind, Port], BeforeValidator(_port_map)] = Field(
        default_factory=dict, description="a port per kind: chat=8080,embedding=8081"
    )
    models: dict[str, ModelSettings] = Field(default_factory=dict)

    @property
    def max_json_bytes(self) -> int:
        return min(int(self.max_body_bytes), 25 * MEGABYTE)


class EngineSettings(Section):
    """`[engine]`: how models are run."""

    backend: BackendName = Field("auto", description="auto, mlx or torch")
    slice_ms: float = Field(50.0, gt=0, le=10_000, description="longest turn on the device")
    max_batch: int = Field(32, ge=1, le=1024, description="sequences decoded together")
    prefill_chunk: int | None = Field(
        None, ge=1, description="prompt tokens per slice (default: fitted to slice_ms)"
    )
    prefix_cache_bytes: ByteSize | None = Field(
        None, ge=0, description="kept prompts (default: an eighth of memory, up to 4 GB; 0: none)"
    )
    prefix_cache_dir: Path | None = Field(None, description="disk tier of the prefix cache")
    kv_bits: Bits | None = Field(None, description="quantise the KV cache")


class MemorySettings(Section):
    """`[memory]`: what models may use together."""

    budget_bytes: ByteSize | None = Field(None, ge=1, description="weights, caches, activations")
    ttl: Seconds | None = Field(None, description="unload any model idle for so many seconds")


class HubSettings(Section):
    """`[hub]`: what the API may fetch or open. The command line and the file may always."""

    allow_download: bool = Field(False, description="let requests name hub ids to download")
    allowed_folders: PathList = Field((), description="folders that requests may load from")


class Settings(Section):
    api: ApiSettings = ApiSettings()
    engine: EngineSettings = EngineSettings()
    memory: MemorySettings = MemorySettings()
    hub: HubSettings = HubSettings()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
