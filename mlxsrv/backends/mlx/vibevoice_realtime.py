"""VibeVoice-Realtime on MLX: text and sound take turns, a few tokens and a few frames each.

Its voices are the states of the language models after a recording, which come with the
checkpoint; it can't clone others. The networks are those of mlx-audio.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_audio.tts.models.vibevoice.config import ModelConfig
from mlx_audio.tts.models.vibevoice.vibevoice import Model
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.diffusion_solver import levels
from mlxsrv.backends.jsonfile import read_object
from mlxsrv.backends.mlx.encoder_load import loading_errors
from mlxsrv.backends.mlx.encoder_weights import fill, read_arrays
from mlxsrv.backends.mlx.facts import facts_of
from mlxsrv.backends.mlx.vibevoice import floats, named, velocity
from mlxsrv.backends.spoken import bounded, in_slices
from mlxsrv.backends.vibevoice import denoised
from mlxsrv.backends.vibevoice_files import read_tokenizer
from mlxsrv.core.errors import InvalidRequest, LoadError
from mlxsrv.core.speech import Utterance, Voice
from mlxsrv.media.tempo import paced

Floats = NDArray[np.float32]
Layers = list[tuple[mx.array, mx.array]]
"""Keys and values of each layer [1, tokens, heads, size]."""

TEXT_TOKENS, FRAMES = 5, 6
"""A turn each."""
LONGEST_FRAMES = 512
ENDED = 0.5


class Narrator:
    """A voice that has begun to speak: what the language models keep of it and of the text."""

    def __init__(self, model: Model, states: dict[str, mx.array]) -> None:
        self._model = model
        self._text = _layers(states, "lm", model.language_model.config.num_hidden_layers)
        layers = model.tts_language_model.config.num_hidden_layers
        self._speech = _layers(states, "tts_lm", layers)
        self._unguided = _layers(states, "neg_tts_lm", layers)
        self._said = states["tts_lm_hidden"][:, -1]
        self._unsaid = states["neg_tts_lm_hidden"][:, -1]

    def read(self, tokens: list[int]) -> None:
        """Takes in what it is to say next."""
        model = self._model
        words = model.language_model.embed_tokens(mx.array([tokens]))
        meant, self._text = model.language_model(inputs_embeds=words, cache=self._text)
        kind = model.tts_input_types(mx.ones((1, len(tokens)), mx.int32))
        hidden, self._speech = model.tts_language_model(
            inputs_embeds=meant + kind, cache=self._speech
        )
        self._said = hidden[:, -1]
        mx.eval(self._said)

    def velocity(self, latent: Floats, time: int) -> Floats:
        conditions = mx.concatenate([self._said, self._unsaid])
        return velocity(self._model.prediction_head, latent, time, conditions)

    def hear(self, latent: Floats) -> bool:
        """Takes in the frame that it has made; tells whether it was the last."""
        model = self._model
        sound = model.acoustic_connector(mx.array(latent[None, None]).astype(self._said.dtype))
        sound = sound + model.tts_input_types(mx.zeros((1, 1), mx.int32))
        said, self._speech = model.tts_language_model(inputs_embeds=sound, cache=self._speech)
        unsaid, self._unguided = model.tts_language_model(inputs_embeds=sound, cache=self._unguided)
        self._said, self._unsaid = said[:, -1], unsaid[:, -1]
        ended = mx.sigmoid(model.tts_eos_classifier(self._said)).astype(mx.float32)
        mx.eval(ended, self._unsaid)
        return float(ended.item()) > ENDED


class RealtimeBackend:
    """Implements `SpeechBackend`; see there for the contract."""

    clones = False

    def __init__(self, model: Model, tokenizer: Tokenizer, voices: dict[str, Path]) -> None:
        self.facts = facts_of([model], vocab_size=model.config.decoder_config.vocab_size)
        self.sample_rate = int(model.sample_rate)
        self.voices = tuple(Voice(name, _language(name)) for name in voices)
        english = (voice.id for voice in self.voices if voice.language == "en")
        self.default_voice = next(english, self.voices[0].id)
        self._model = model
        self._tokenizer = tokenizer
        self._files = voices

    def synthesize(self, utterance: Utterance) -> Iterator[Floats]:
        frames = in_slices(self._frames(utterance))
        spoken = paced(frames, utterance.speed, self.sample_rate)
        return bounded(spoken, self.sample_rate, utterance.max_frames)

    def _frames(self, utterance: Utterance) -> Iterator[Floats | None]:
        if utterance.voice not in self._files:
            raise InvalidRequest(f"voice: the model has no {utterance.voice}", param="voice")
        narrator = Narrator(self._model, mx.load(str(self._files[utterance.voice])))
        text = " ".join(utterance.text.split()) + "\n"
        ids = list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        draw = np.random.default_rng(utterance.seed)
        through = levels(utterance.diffusion_steps)
        size = self._model.config.acoustic_vae_dim
        coder: dict[str, mx.array] = {}
        for step in range(LONGEST_FRAMES):
            if step % FRAMES == 0 and ids:
                narrator.read(ids[:TEXT_TOKENS])
                del ids[:TEXT_TOKENS]
                yield None
            latent = draw.standard_normal(size, dtype=np.float32)
            for cleaner in denoised(narrator.velocity, latent, through, utterance.cfg_scale):
                latent = cleaner
                yield None
            yield self._decoded(latent, coder)
            if narrator.hear(latent):
                return
            yield None

    def _decoded(self, latent: Floats, coder: dict[str, mx.array]) -> Floats:
        model = self._model
        scaled = mx.array(latent).astype(model.speech_scaling_factor.dtype)
        plain = scaled / model.speech_scaling_factor - model.speech_bias_factor
        return floats(model.acoustic_tokenizer.decode(plain[None, None], cache=coder)[0, 0])

    def close(self) -> None:
        del self._model
        mx.clear_cache()


def _layers(states: dict[str, mx.array], model: str, count: int) -> Layers:
    """Voices are saved with the heads before the tokens."""
    pairs = ((f"{model}_key_{layer}", f"{model}_value_{layer}") for layer in range(count))
    return [(states[k].swapaxes(1, 2), states[v].swapaxes(1, 2)) for k, v in pairs]


def _language(voice: str) -> str:
    """Voices are called like en-Emma_woman."""
    head, dash, _ = voice.partition("-")
    return head if dash and len(head) == 2 else "en"


def load_realtime(checkpoint: Checkpoint) -> Generator[int, None, RealtimeBackend]:
    """Loads a folder with voices/, quantised or not; yields the bytes read. Raises LoadError."""
    folder = checkpoint.folder
    config = read_object(folder / "config.json")
    tokenizer = read_tokenizer(folder, needed=())
    voices = {file.stem: file for file in sorted((folder / "voices").glob("*.safetensors"))}
    if not voices:
        raise LoadError(f"{folder.name} has no voices: voices/*.safetensors")
    with loading_errors(folder):
        model = Model(ModelConfig.from_dict(config))
        model.tts_language_model.embed_tokens = None  # it is only given what the other made
        yield from fill(model, named(read_arrays(folder), model), config)
    return RealtimeBackend(model, tokenizer, voices)
