"""VibeVoice's networks on MLX, which are those of mlx-audio."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from mlx_audio.lm.models.cache import KVCache
from mlx_audio.tts.models.vibevoice.acoustic_tokenizer import AcousticTokenizer, TokenizerEncoder
from mlx_audio.tts.models.vibevoice.config import (
    AcousticTokenizerConfig,
    DiffusionHeadConfig,
    Qwen2DecoderConfig,
)
from mlx_audio.tts.models.vibevoice.diffusion_head import DiffusionHead
from mlx_audio.tts.models.vibevoice.language_model import Qwen2Model, SpeechConnector
from numpy.typing import NDArray

from mlxsrv.backends.checkpoint import Checkpoint
from mlxsrv.backends.jsonfile import read_object
from mlxsrv.backends.mlx.encoder_load import loading_errors
from mlxsrv.backends.mlx.encoder_weights import Arrays, fill, read_arrays
from mlxsrv.backends.mlx.facts import facts_of
from mlxsrv.backends.vibevoice import VibeVoiceBackend
from mlxsrv.backends.vibevoice_files import (
    Coder,
    VibeVoiceSizes,
    our_name,
    read_sizes,
    read_tokenizer,
)

Floats = NDArray[np.float32]
Cache = list[KVCache]
State = dict[str, mx.array]


class SemanticTokenizer(nn.Module):
    """Only named as the checkpoints have it."""

    def __init__(self, coder: Coder) -> None:
        super().__init__()
        self.encoder = TokenizerEncoder(_coder_config(coder))


class Networks(nn.Module):
    """All that the weights are for, under Microsoft's names."""

    def __init__(self, sizes: VibeVoiceSizes) -> None:
        super().__init__()
        text = Qwen2DecoderConfig.from_dict(dict(sizes.text))
        self.language_model = Qwen2Model(text)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.acoustic_tokenizer = AcousticTokenizer(
            _coder_config(sizes.acoustic), include_encoder=True
        )
        self.semantic_tokenizer = SemanticTokenizer(sizes.semantic)
        self.acoustic_connector = SpeechConnector(sizes.acoustic.latent, text.hidden_size)
        self.semantic_connector = SpeechConnector(sizes.semantic.latent, text.hidden_size)
        self.prediction_head = DiffusionHead(_head_config(sizes, text.hidden_size))
        self.speech_scaling_factor = mx.array(1.0)
        self.speech_bias_factor = mx.array(0.0)


class MlxVibeVoice:
    """Implements `VibeVoiceNet`; see there for the contract."""

    def __init__(self, networks: Networks) -> None:
        self._net = networks
        self._dtype = networks.language_model.norm.weight.dtype

    def new_cache(self) -> Cache:
        made: Cache = self._net.language_model.make_cache()
        return made

    def new_state(self) -> State:
        return {}

    def embed(self, tokens: Sequence[int]) -> mx.array:
        return self._net.language_model.embed_tokens(mx.array([list(tokens)]))

    def feed(self, embeddings: mx.array, cache: Cache) -> mx.array:
        hidden, _ = self._net.language_model(inputs_embeds=embeddings, cache=cache)
        last = hidden[:, -1]
        mx.eval(last)
        return last

    def scores(self, hidden: mx.array, tokens: Sequence[int]) -> list[float]:
        found = self._net.lm_head(hidden)[0, mx.array(list(tokens))].tolist()
        return [float(score) for score in found]

    def velocity(self, latent: Floats, time: int, conditions: Sequence[mx.array]) -> Floats:
        return velocity(self._net.prediction_head, latent, time, mx.concatenate(list(conditions)))

    def encode(self, samples: Floats, state: State) -> Floats:
        encoder = self._net.acoustic_tokenizer.encoder
        return floats(encoder(self._array(samples)[None, None], cache=state)[0])

    def project(self, latents: Floats) -> mx.array:
        scaled = (self._array(latents) + self._net.speech_bias_factor) * self._scale
        return self._net.acoustic_connector(scaled)[None]

    def decode(self, latent: Floats, state: State) -> Floats:
        plain = self._array(latent) / self._scale - self._net.speech_bias_factor
        return floats(self._net.acoustic_tokenizer.decode(plain[None, None], cache=state)[0, 0])

    def echo(self, latent: Floats, samples: Floats, state: State) -> mx.array:
        sound = self._array(samples)[None, None]
        meaning = self._net.semantic_tokenizer.encoder(sound, cache=state)
        spoken = self._net.acoustic_connector(self._array(latent)[None, None])
        return spoken + self._net.semantic_connector(meaning)

    @property
    def _scale(self) -> mx.array:
        return self._net.speech_scaling_factor

    def _array(self, values: Floats) -> mx.array:
        return mx.array(values).astype(self._dtype)


def velocity(head: DiffusionHead, latent: Floats, time: int, conditions: mx.array) -> Floats:
    """The diffusion head's answers for one latent under each condition."""
    rows, dtype = len(conditions), conditions.dtype
    shown = mx.broadcast_to(mx.array(latent).astype(dtype), (rows, latent.size))
    return floats(head(shown, mx.full((rows,), time, dtype=dtype), conditions))


def floats(values: mx.array) -> Floats:
    return np.array(values.astype(mx.float32))


def load_vibevoice(
    checkpoint: Checkpoint,
) -> Generator[int, None, VibeVoiceBackend[mx.array, Cache, State]]:
    """Loads a folder of either layout, quantised or not; yields the bytes read.

    Raises LoadError.
    """
    folder = checkpoint.folder
    sizes = read_sizes(folder)
    tokenizer = read_tokenizer(folder)
    with loading_errors(folder):
        networks = Networks(sizes)
        arrays = named(read_arrays(folder), networks)
        yield from fill(networks, arrays, read_object(folder / "config.json"))
    facts = facts_of([networks], vocab_size=sizes.text["vocab_size"])
    return VibeVoiceBackend(MlxVibeVoice(networks), sizes, tokenizer, facts)


def named(published: Mapping[str, mx.array], networks: nn.Module) -> Arrays:
    """The tensors under the names that mlx-audio has for them, their axes as MLX has them."""
    shapes = {name: array.shape for name, array in tree_flatten(networks.parameters())}
    theirs = {our_name(name): name for name in shapes}
    arrays: Arrays = {}
    for name, array in published.items():
        path, _, part = our_name(name).rpartition(".")
        packed = part in {"scales", "biases"}
        found = theirs.get(f"{path}.weight" if packed else our_name(name))
        if found is not None and packed:
            arrays[f"{found.removesuffix('weight')}{part}"] = array
        elif found is not None:
            arrays[found] = _turned(array, shapes[found])
    if "lm_head.weight" in shapes and "lm_head.weight" not in arrays:
        tied = "language_model.embed_tokens."
        arrays |= {
            name.replace(tied, "lm_head."): array
            for name, array in arrays.items()
            if name.startswith(tied)
        }
    return arrays


def _turned(array: mx.array, shape: tuple[int, ...]) -> mx.array:
    """A convolution has its inputs last on MLX. What does not fit is left to be refused."""
    for axes in ((0, 2, 1), (1, 2, 0)):
        if array.ndim == 3 and array.shape != shape and array.transpose(axes).shape == shape:
            return array.transpose(axes)
    return array


def _coder_config(coder: Coder) -> AcousticTokenizerConfig:
    return AcousticTokenizerConfig(
        vae_dim=coder.latent,
        encoder_n_filters=coder.filters,
        decoder_n_filters=coder.filters,
        encoder_ratios=list(reversed(coder.ratios)),
        encoder_depths="-".join(map(str, coder.depths)),
        layernorm_eps=coder.eps,
    )


def _head_config(sizes: VibeVoiceSizes, width: int) -> DiffusionHeadConfig:
    return DiffusionHeadConfig(
        hidden_size=width,
        head_layers=sizes.head_layers,
        head_ffn_ratio=sizes.head_inner / width,
        rms_norm_eps=sizes.head_eps,
        latent_size=sizes.acoustic.latent,
        speech_vae_dim=sizes.acoustic.latent,
    )
