"""`GET /metrics`: Prometheus text, put together from plain counters when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fastapi import APIRouter
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from mlxsrv.api.services import RegistryView, services_of
from mlxsrv.core.histogram import Histogram
from mlxsrv.core.meters import (
    FIRST_TOKEN_SECONDS,
    INTER_TOKEN_SECONDS,
    DeviceMeters,
    EncoderMeters,
    ImageMeters,
    RequestMeters,
    SpeechMeters,
    TextMeters,
    TranscriptionMeters,
)

router = APIRouter(tags=["operation"])


@router.get("/metrics", response_class=Response)
@router.get("/v1/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Counters since the start and gauges of this moment."""
    services = services_of(request)
    collectors = CollectorRegistry(auto_describe=False)
    collectors.register(
        MetersCollector(
            services.requests, services.device.meters, services.registry, services.restarts
        )
    )
    return Response(generate_latest(collectors), media_type=CONTENT_TYPE_LATEST)


class MetersCollector(Collector):
    """Reads the meters at scrape time, so that nothing on the hot path knows of Prometheus."""

    def __init__(
        self,
        requests: RequestMeters,
        device: DeviceMeters,
        registry: RegistryView,
        restarts: int = 0,
    ) -> None:
        self._finished = requests.finished
        self._device = device
        self._registry = registry
        self._restarts = restarts

    def collect(self) -> Iterator[Metric]:
        yield self._requests()
        transcriptions = self._registry.transcription_meters()
        speech = self._registry.speech_meters()
        images = self._registry.image_meters()
        texts, encoders = self._registry.text_meters(), self._registry.encoder_meters()
        yield from _text(texts, encoders, transcriptions)
        yield GaugeMetricFamily(
            "mlxsrv_queue_length",
            "Sequences, texts, recordings and pictures that wait for their turn.",
            value=sum(
                one.queue_length
                for meters in (texts, encoders, transcriptions, speech, images)
                for one in meters
            ),
        )
        yield from _transcriptions(transcriptions)
        yield from _speech(speech)
        yield from _images(images)
        yield self._slices()
        yield CounterMetricFamily(
            "mlxsrv_restarts",
            "Times that the supervisor has restarted the serving process.",
            value=self._restarts,
        )
        memory = self._registry.memory()
        yield _gauges(
            "mlxsrv_memory_bytes", "Memory that models hold, by what for.", "kind", memory.held
        )
        yield GaugeMetricFamily(
            "mlxsrv_memory_budget_bytes",
            "Memory that models may hold together; 0 until the first is loaded.",
            value=memory.budget_bytes,
        )
        yield self._loads()
        yield _gauges(
            "mlxsrv_models",
            "Models by state.",
            "state",
            self._registry.models_by_state(),
        )

    def _requests(self) -> Metric:
        family = CounterMetricFamily(
            "mlxsrv_requests",
            "Finished requests by route template and status (499: the client left).",
            labels=["route", "status"],
        )
        for (route, status), count in list(self._finished.items()):
            family.add_metric([route, str(status)], count)
        return family

    def _loads(self) -> Metric:
        family = CounterMetricFamily(
            "mlxsrv_model_loads", "Times that a model was loaded into memory.", labels=["model"]
        )
        for model, count in list(self._registry.loads().items()):
            family.add_metric([model], count)
        return family

    def _slices(self) -> Metric:
        family = HistogramMetricFamily(
            "mlxsrv_slice_seconds",
            "Length of one turn on the device by kind of work.",
            labels=["kind"],
        )
        for kind, histogram in list(self._device.slices.items()):
            family.add_metric([kind], histogram.cumulative(), histogram.total)
        return family


def _text(
    models: Sequence[TextMeters],
    encoders: Sequence[EncoderMeters],
    transcriptions: Sequence[TranscriptionMeters],
) -> Iterator[Metric]:
    prompt_tokens = sum(m.prompt_tokens for m in models) + sum(e.tokens for e in encoders)
    written = sum(t.generated_tokens for t in transcriptions)
    for name, help_text, value in (
        ("prompt", "Prompt tokens taken in.", prompt_tokens),
        (
            "generated",
            "Tokens generated, those of transcripts included.",
            written + sum(m.generated_tokens for m in models),
        ),
        ("cached", "Prompt tokens found in a cache.", sum(m.cached_tokens for m in models)),
        (
            "padding",
            "Places of embedding and rerank batches that held no token.",
            sum(e.padding_tokens for e in encoders),
        ),
    ):
        yield CounterMetricFamily(f"mlxsrv_{name}_tokens", help_text, value=value)
    yield _histogram(
        "mlxsrv_time_to_first_token_seconds",
        "From a request's arrival at the engine to its first token.",
        [m.time_to_first_token for m in models] or [Histogram(FIRST_TOKEN_SECONDS)],
    )
    yield _histogram(
        "mlxsrv_inter_token_seconds",
        "Between consecutive tokens of one sequence.",
        [m.inter_token for m in models] or [Histogram(INTER_TOKEN_SECONDS)],
    )
    yield GaugeMetricFamily(
        "mlxsrv_running_sequences",
        "Sequences in the running batches.",
        value=sum(m.running for m in models),
    )


def _transcriptions(models: Sequence[TranscriptionMeters]) -> Iterator[Metric]:
    for name, help_text, value in (
        ("seconds", "Seconds of sound transcribed.", sum(m.seconds for m in models)),
        ("segments", "Segments of text found in it.", sum(m.segments for m in models)),
    ):
        yield CounterMetricFamily(f"mlxsrv_transcribed_{name}", help_text, value=value)
    yield GaugeMetricFamily(
        "mlxsrv_running_transcriptions",
        "Recordings that are being transcribed.",
        value=sum(m.running for m in models),
    )


def _speech(models: Sequence[SpeechMeters]) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "mlxsrv_spoken_seconds", "Seconds of speech made.", value=sum(m.seconds for m in models)
    )
    yield GaugeMetricFamily(
        "mlxsrv_running_speech",
        "Texts that are being spoken.",
        value=sum(m.running for m in models),
    )


def _images(models: Sequence[ImageMeters]) -> Iterator[Metric]:
    for name, help_text, value in (
        ("images", "Pictures finished.", sum(m.pictures for m in models)),
        ("image_steps", "Steps of pictures done.", sum(m.steps for m in models)),
    ):
        yield CounterMetricFamily(f"mlxsrv_{name}", help_text, value=value)
    yield GaugeMetricFamily(
        "mlxsrv_running_images",
        "Requests whose pictures are being drawn.",
        value=sum(m.running for m in models),
    )


def _histogram(name: str, help_text: str, parts: list[Histogram]) -> Metric:
    """The parts, which share their bounds, as one."""
    whole = Histogram(parts[0].bounds)
    for part in parts:
        whole.counts = [a + b for a, b in zip(whole.counts, part.counts, strict=True)]
        whole.total += part.total
    family = HistogramMetricFamily(name, help_text)
    family.add_metric([], whole.cumulative(), whole.total)
    return family


def _gauges(name: str, help_text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
