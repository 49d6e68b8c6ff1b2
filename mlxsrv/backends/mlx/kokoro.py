"""Kokoro (StyleTTS 2, arXiv:2306.07691, with an inverse Fourier transform as its last step)
on MLX: the networks are those of mlx-audio, run one after the other.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_audio.tts.models.kokoro.istftnet import leaky_relu
from mlx_audio.tts.models.kokoro.kokoro import Model, ModelConfig
from numpy.typing import NDArray

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.clauses import pieces
from mlxsrv.backends.espeak_library import voice_files
from mlxsrv.backends.jsonfile import read_object
from mlxsrv.backends.kokoro_phonemes import LANGUAGES, cut, kokoro_letters
from mlxsrv.backends.mlx.encoder_load import loading_errors
from mlxsrv.backends.mlx.encoder_weights import Arrays, fill, read_arrays
from mlxsrv.backends.mlx.facts import facts_of
from mlxsrv.backends.phonemes import phonemes
from mlxsrv.backends.spoken import bounded, in_slices, unspeakable
from mlxsrv.core.errors import InvalidRequest, LoadError
from mlxsrv.core.speech import Utterance, Voice

Floats = NDArray[np.float32]

PIECE_LETTERS = 250
"""Spoken together: some 15 seconds, as long as what it was trained on."""
LONGEST_FRAMES = 100
"""Of one phoneme, 25 ms each."""
FAVOURITE = "af_heart"

_LSTM = {
    "weight_ih_l0": "Wx_forward",
    "weight_hh_l0": "Wh_forward",
    "bias_ih_l0": "bias_ih_forward",
    "bias_hh_l0": "bias_hh_forward",
    "weight_ih_l0_reverse": "Wx_backward",
    "weight_hh_l0_reverse": "Wh_backward",
    "bias_ih_l0_reverse": "bias_ih_backward",
    "bias_hh_l0_reverse": "bias_hh_backward",
}
_NORM = {"gamma": "weight", "beta": "bias"}


class KokoroBackend:
    """Implements `SpeechBackend`; see there for the contract."""

    clones = False

    def __init__(self, model: Model, styles: Mapping[str, mx.array]) -> None:
        """`styles`: for each voice one [1, 2 * style] for each number of phonemes."""
        self.facts = facts_of([model], vocab_size=len(model.vocab))
        self.sample_rate = int(model.sample_rate)
        self.voices = tuple(Voice(name, LANGUAGES[name[0]]) for name in sorted(styles))
        names = [voice.id for voice in self.voices]
        self.default_voice = FAVOURITE if FAVOURITE in names else names[0]
        self._files = voice_files()
        self._model = model
        self._styles = styles

    def synthesize(self, utterance: Utterance) -> Iterator[Floats]:
        sounds = in_slices(self._sounds(utterance))
        return bounded(sounds, self.sample_rate, utterance.max_frames)

    def _sounds(self, utterance: Utterance) -> Iterator[Floats | None]:
        styles = self._styles.get(utterance.voice)
        if styles is None:
            raise InvalidRequest(f"voice: the model has no {utterance.voice}", param="voice")
        language = LANGUAGES[utterance.voice[0]]
        silent = True
        for piece in pieces(utterance.text, PIECE_LETTERS):
            letters = kokoro_letters(phonemes(piece, self._files[language]), language)
            yield None
            known = "".join(filter(self._model.vocab.__contains__, letters))
            for part in cut(known, self._model.context_length - 2):
                ids = [self._model.vocab[letter] for letter in part]
                silent = False
                style = styles[min(len(ids), len(styles)) - 1]
                yield from self._spoken(ids, style, utterance.speed, utterance.seed)
        if silent:
            raise unspeakable(utterance.text)

    def _spoken(
        self, ids: list[int], style: mx.array, speed: float, seed: int
    ) -> Iterator[Floats | None]:
        model, predictor = self._model, self._model.predictor
        timbre, prosody = mx.split(style, 2, axis=-1)
        row = mx.array([[0, *ids, 0]])
        lengths, padding = mx.array([row.shape[1]]), mx.zeros(row.shape, mx.bool_)
        read, _ = model.bert(row, attention_mask=mx.ones(row.shape, mx.int32))
        meant = predictor.text_encoder(
            model.bert_encoder(read).transpose(0, 2, 1), prosody, lengths, padding
        )
        mx.eval(meant)
        yield None
        timed, _ = predictor.lstm(meant)
        order = mx.array(_order(predictor.duration_proj(timed), speed))
        yield None
        pitch, loudness = predictor.F0Ntrain(meant[:, order].transpose(0, 2, 1), prosody)
        mx.eval(pitch, loudness)
        yield None
        said = model.text_encoder(row, lengths, padding)[..., order]
        mx.eval(said)
        yield None
        yield from self._decoded(said, pitch, loudness, timbre, seed)

    def _decoded(
        self, said: mx.array, pitch: mx.array, loudness: mx.array, style: mx.array, seed: int
    ) -> Iterator[Floats | None]:
        decoder = self._model.decoder
        curves = [
            _convolved(decoder.F0_conv, pitch[:, None]),
            _convolved(decoder.N_conv, loudness[:, None]),
        ]
        beside = [_convolved(decoder.asr_res[0], said), *curves]
        hidden = decoder.encode(mx.concatenate([said, *curves], axis=1), style)
        mx.eval(hidden)
        yield None
        for block in decoder.decode:
            hidden = block(mx.concatenate([hidden, *beside], axis=1), style)
            mx.eval(hidden)
            yield None
        yield from self._waves(hidden, pitch, style, seed)

    def _waves(
        self, hidden: mx.array, pitch: mx.array, style: mx.array, seed: int
    ) -> Iterator[Floats | None]:
        generator = self._model.decoder.generator
        hum = self._hum(pitch, seed)
        yield None
        kernels = generator.num_kernels
        for stage in range(generator.num_upsamples):
            added = generator.noise_convs[stage](hum).swapaxes(2, 1)
            added = generator.noise_res[stage](added, style)
            mx.eval(added)
            yield None
            wider = leaky_relu(hidden, negative_slope=0.1).swapaxes(2, 1)
            wider = generator.ups[stage](wider, mx.conv_transpose1d).swapaxes(2, 1)
            if stage == generator.num_upsamples - 1:
                wider = generator.reflection_pad(wider)
            wider = wider + added
            hidden = mx.zeros_like(wider)
            for block in generator.resblocks[stage * kernels : (stage + 1) * kernels]:
                hidden = hidden + block(wider, style) / kernels
                mx.eval(hidden)
                yield None
        spectrum = _convolved(generator.conv_post, leaky_relu(hidden, negative_slope=0.01))
        bins = generator.post_n_fft // 2 + 1
        loud, phase = mx.exp(spectrum[:, :bins]), mx.sin(spectrum[:, bins:])
        yield np.array(generator.stft.inverse(loud, phase).astype(mx.float32)).reshape(-1)

    def _hum(self, pitch: mx.array, seed: int) -> mx.array:
        """The spectrum of a voice without a mouth: sines of the pitch, and noise."""
        generator = self._model.decoder.generator
        # The library draws from MLX's own generator, so all of it happens in one slice.
        mx.random.seed(seed % 2**63)
        source, _, _ = generator.m_source(generator.f0_upsamp(pitch[..., None]))
        parts = generator.stft.transform(source.transpose(0, 2, 1).squeeze(1))
        hum = mx.concatenate(parts, axis=1).swapaxes(2, 1)
        mx.eval(hum)
        return hum

    def close(self) -> None:
        del self._model, self._styles
        mx.clear_cache()


def _convolved(layer: Any, hidden: mx.array) -> mx.array:
    """A convolution over [rows, channels, time], which MLX has the other way round."""
    return layer(hidden.swapaxes(2, 1), mx.conv1d).swapaxes(2, 1)


def _order(durations: mx.array, speed: float) -> NDArray[np.int64]:
    """Which phoneme is heard in each frame, from what is predicted [1, phonemes, steps]."""
    frames = np.array(mx.sigmoid(durations).sum(axis=-1).astype(mx.float32))[0] / speed
    counts = np.clip(np.rint(np.nan_to_num(frames, nan=1.0)), 1, LONGEST_FRAMES).astype(int)
    return np.repeat(np.arange(len(counts)), counts)


def load_kokoro(checkpoint: Checkpoint) -> Generator[int, None, KokoroBackend]:
    """Loads a folder with voices/, quantised or not; yields the bytes read. Raises LoadError."""
    folder = checkpoint.folder
    config = read_object(folder / "config.json")
    with loading_errors(folder):
        model = Model(ModelConfig.from_dict(config))
        styles = _styles(folder, model.config.style_dim)
        yield from fill(model, _named(read_arrays(folder), model), config)
        mx.eval(list(styles.values()))
    return KokoroBackend(model, styles)


def _styles(folder: Path, width: int) -> dict[str, mx.array]:
    styles = {}
    for file in sorted((folder / "voices").glob("*.safetensors")):
        if file.name[0] in LANGUAGES:
            array = next(iter(mx.load(str(file)).values()))
            styles[file.stem] = array.reshape(-1, 1, 2 * width)
    if not styles:
        raise LoadError(
            f"{folder.name} has no voices: voices/*.safetensors of one of the languages "
            f"{', '.join(LANGUAGES.values())}"
        )
    return styles


def _named(published: Mapping[str, mx.array], model: Model) -> Arrays:
    """The tensors under mlx-audio's names, their axes as MLX has them."""
    shapes = {name: array.shape for name, array in tree_flatten(model.parameters())}
    arrays: Arrays = {}
    for name, array in published.items():
        path, _, part = name.rpartition(".")
        part = _LSTM.get(part, part)
        if path.startswith("text_encoder."):
            part = _NORM.get(part, part)
        ours = f"{path}.{part}"
        if ours in shapes:
            turned = array.ndim == 3 and array.shape != shapes[ours]
            arrays[ours] = array.transpose(0, 2, 1) if turned else array
        elif part in {"scales", "biases"} and f"{path}.weight" in shapes:
            arrays[ours] = array
    return arrays
