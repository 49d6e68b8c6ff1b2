"""VITS (arXiv:2106.06103) and the MMS voices of that architecture, on torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import leaky_relu
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations
from transformers import VitsConfig, VitsModel, VitsTokenizer
from transformers.utils import is_uroman_available
from transformers.utils import logging as transformers_logging

from mlxsrv.backends.base import ModelFacts
from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.clauses import pieces, without_controls
from mlxsrv.backends.espeak_library import voice_files
from mlxsrv.backends.phonemes import TIE, phonemes
from mlxsrv.backends.spoken import bounded, in_slices, unspeakable
from mlxsrv.backends.torch.encoder import loading_errors
from mlxsrv.backends.torch.precision import device_name, dtype_for, threads_for, use_threads
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.core.speech import Utterance, Voice

Floats = NDArray[np.float32]

PIECE_LETTERS = 400
"""Spoken together: attention grows with the square of the text."""
WINDOW_FRAMES = 64
"""Made to sound together, about a second."""


class Held(nn.Module):
    """Stands in the place of a part of the model and keeps what the part would be given."""

    inputs: tuple[Any, ...] = ()

    def forward(self, *inputs: Any, **named: Any) -> torch.Tensor:
        self.inputs = inputs
        return inputs[0]


class VitsText:
    """From text to the ids of letters or phonemes, as the model was trained."""

    def __init__(self, tokenizer: VitsTokenizer) -> None:
        self._tokenizer = tokenizer
        # It would need a package of its own, which brings espeak-ng a second time.
        self._file = voice_files()["en-us"] if tokenizer.phonemize else None
        tokenizer.phonemize = False

    def ids(self, text: str) -> list[int]:
        """Empty where the model has no sound for any of it. Raises InvalidRequest."""
        if self._tokenizer.is_uroman and not text.isascii() and not is_uroman_available():
            raise InvalidRequest(
                "input: this voice reads Latin letters only: write them, or install uroman on "
                "the server (pip install uroman)",
                param="input",
            )
        if self._file is not None:
            text = phonemes(text, self._file).replace(TIE, "")
        prepared, _ = self._tokenizer.prepare_for_tokenization(text)
        known = any(letter in self._tokenizer.encoder for letter in prepared.strip())
        return list(self._tokenizer(text)["input_ids"]) if known else []


class VitsBackend:
    """Implements `SpeechBackend`; see there for the contract."""

    clones = False

    def __init__(self, model: VitsModel, text: VitsText, language: str, *, threads: int) -> None:
        config = model.config
        self.sample_rate = int(config.sampling_rate)
        self.voices = _voices(config, language)
        self.default_voice = self.voices[0].id
        self.facts = ModelFacts(
            backend="torch",
            vocab_size=config.vocab_size,
            memory_bytes=sum(part.nbytes for part in model.state_dict().values()),
            dtype=str(model.dtype).removeprefix("torch."),
        )
        self._flows, self._decoder = model.flow.flows, model.decoder
        # What comes before them is one slice, and they are run here piece by piece.
        model.flow, model.decoder = Held(), Held()
        self._model = model
        self._text = text
        self._margin = margin(config)
        self._hop = math.prod(config.upsample_rates)
        self._threads = threads

    def synthesize(self, utterance: Utterance) -> Iterator[Floats]:
        sounds = in_slices(self._sounds(utterance))
        return bounded(sounds, self.sample_rate, utterance.max_frames)

    def _sounds(self, utterance: Utterance) -> Iterator[Floats | None]:
        ids = [voice.id for voice in self.voices]
        if utterance.voice not in ids:
            raise InvalidRequest(f"voice: the model has no {utterance.voice}", param="voice")
        speaker = ids.index(utterance.voice)
        text = without_controls(utterance.text)
        silent = True
        for number, piece in enumerate(pieces(text, PIECE_LETTERS)):
            found = self._text.ids(piece)
            if found:
                silent = False
                yield from self._spoken(found, speaker, utterance.speed, utterance.seed + number)
        if silent:
            raise unspeakable(utterance.text)

    def _spoken(
        self, ids: list[int], speaker: int, speed: float, seed: int
    ) -> Iterator[Floats | None]:
        latents, mask, style = self._prior(ids, speaker, speed, seed)
        yield None
        for flow in reversed(self._flows):
            latents = self._unflowed(flow, latents, mask, style)
            yield None
        length = latents.shape[-1]
        for start in range(0, length, WINDOW_FRAMES):
            end = min(start + WINDOW_FRAMES, length)
            first, last = max(0, start - self._margin), min(length, end + self._margin)
            yield from self._waves(
                latents[..., first:last],
                style,
                (start - first) * self._hop,
                (end - start) * self._hop,
            )

    @torch.inference_mode()
    def _prior(
        self, ids: list[int], speaker: int, speed: float, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Noise shaped by the text [1, width, frames], and what the flows need beside it."""
        use_threads(self._threads)
        model, device = self._model, self._model.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed % 2**63)
            model(
                input_ids=torch.tensor([ids], device=device),
                speaker_id=speaker if len(self.voices) > 1 else None,
                speaking_rate=model.speaking_rate * speed,
            )
        latents, mask, style = model.flow.inputs
        model.flow.inputs = model.decoder.inputs = ()
        return latents, mask, style

    @torch.inference_mode()
    def _unflowed(
        self, flow: nn.Module, latents: torch.Tensor, mask: torch.Tensor, style: torch.Tensor | None
    ) -> torch.Tensor:
        use_threads(self._threads)
        turned, _ = flow(torch.flip(latents, [1]), mask, style, reverse=True)
        return turned

    def _waves(
        self, latents: torch.Tensor, style: torch.Tensor | None, skip: int, samples: int
    ) -> Iterator[Floats | None]:
        """HiFi-GAN (arXiv:2010.05646), layer by layer; the last gives the samples."""
        hidden = self._begun(latents, style)
        kernels = self._decoder.num_kernels
        for stage in range(self._decoder.num_upsamples):
            hidden = self._widened(stage, hidden)
            total: torch.Tensor | None = None
            for block in self._decoder.resblocks[stage * kernels : (stage + 1) * kernels]:
                yield None
                total = self._added(block, hidden, total)
            assert total is not None
            hidden = total / kernels
        yield self._finished(hidden)[skip : skip + samples]

    @torch.inference_mode()
    def _begun(self, latents: torch.Tensor, style: torch.Tensor | None) -> torch.Tensor:
        hidden = self._decoder.conv_pre(latents)
        return hidden if style is None else hidden + self._decoder.cond(style)

    @torch.inference_mode()
    def _widened(self, stage: int, hidden: torch.Tensor) -> torch.Tensor:
        use_threads(self._threads)
        slope = self._decoder.config.leaky_relu_slope
        return self._decoder.upsampler[stage](leaky_relu(hidden, slope))

    @torch.inference_mode()
    def _added(
        self, block: nn.Module, hidden: torch.Tensor, total: torch.Tensor | None
    ) -> torch.Tensor:
        use_threads(self._threads)
        found = block(hidden)
        return found if total is None else total + found

    @torch.inference_mode()
    def _finished(self, hidden: torch.Tensor) -> Floats:
        waves = torch.tanh(self._decoder.conv_post(leaky_relu(hidden)))
        found: Floats = waves[0, 0].float().cpu().numpy()
        return found

    def close(self) -> None:
        del self._model, self._flows, self._decoder


def margin(config: VitsConfig) -> int:
    """How many frames on either side a frame's sound depends on, at most."""
    reach = 3  # of the last convolution, in samples
    blocks = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
    widest = max((size - 1) // 2 * (sum(gaps) + len(gaps)) for size, gaps in blocks)
    for rate, size in zip(
        reversed(config.upsample_rates), reversed(config.upsample_kernel_sizes), strict=True
    ):
        reach = math.ceil((reach + widest) / rate) + math.ceil(size / rate)
    return reach + 3


def _voices(config: VitsConfig, language: str) -> tuple[Voice, ...]:
    if config.num_speakers < 2:
        return (Voice("default", language),)
    return tuple(Voice(f"speaker-{number}", language) for number in range(config.num_speakers))


def load_vits(checkpoint: Checkpoint) -> VitsBackend:
    """Loads a Hugging Face folder. Raises LoadError."""
    folder = checkpoint.folder
    transformers_logging.disable_progress_bar()
    device = device_name()
    with loading_errors(folder):
        model = VitsModel.from_pretrained(
            folder,
            dtype=dtype_for(device, checkpoint.weight_bytes),
            use_safetensors=True,
            local_files_only=True,
        )
        for part in model.modules():
            if is_parametrized(part, "weight"):
                remove_parametrizations(part, "weight")
        tokenizer = VitsTokenizer.from_pretrained(folder, local_files_only=True)
    language = str(tokenizer.language or "en")
    return VitsBackend(
        model.to(device).eval(),
        VitsText(tokenizer),
        language,
        threads=threads_for(checkpoint.weight_bytes),
    )
