"""Find the cross-attention heads that follow the words, for word timestamps."""

from __future__ import annotations

from random import Random

import torch
from tokenizers import Tokenizer

from . import tokens as T
from .hearing import normalise
from .model import DECODER_LAYERS, HEADS, Trained
from .pool import FLOOR, MELS, Pool, Utterance
from .windows import WHOLE

#: How far off a word's attention may be, in seconds, and still count as right.
_NEAR = 0.1
_SAMPLES = 48


def _features(pool: Pool, utterance: Utterance, at: int) -> torch.Tensor:
    window = torch.full((WHOLE, MELS), FLOOR)
    frames = torch.from_numpy(pool.features(utterance).astype("float32"))
    window[at : at + len(frames)] = frames
    return normalise(window.T)


def _words(tokenizer: Tokenizer, utterance: Utterance) -> list[tuple[int, float, float]]:
    """List the words: index of the first token, seconds of begin and end."""
    text = utterance.sentence.text
    begins = [frame for _, frame in utterance.words]
    ends = [*begins[1:], utterance.end]
    rows: list[tuple[int, float, float]] = []
    for (character, begin), end in zip(utterance.words, ends, strict=True):
        index = len(T.encode(tokenizer, text[:character].rstrip())) if character else 0
        rows.append((index, begin / 100, end / 100))
    return rows


@torch.no_grad()
def _attention(model: Trained, features: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Return the cross-attention (layers, heads, tokens, positions) for token numbers."""
    encoded = model.encode(features[None], torch.zeros(1, dtype=torch.long))
    decoder = model.whisper.model.decoder
    out = decoder(
        input_ids=torch.tensor([ids]),
        encoder_hidden_states=encoded,
        use_cache=False,
        output_attentions=True,
    )
    return torch.cat(out.cross_attentions)


def choose_heads(model: Trained, pool: Pool, tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """Return (layer, head) of the heads whose attention is where the word is, the best first."""
    model.attend_with("eager")
    rng, group = Random(0), pool.by_language["en"]
    right = torch.zeros(DECODER_LAYERS, HEADS)
    prefix = [T.START, T.LANGUAGE, T.TRANSCRIBE, T.NO_TIMESTAMPS]
    for _ in range(_SAMPLES):
        utterance, at = rng.choice(group), rng.randint(0, 60)
        tokens = prefix + T.encode(tokenizer, utterance.sentence.text)
        ids = [model.vocabulary.number(token) for token in tokens]
        where = _attention(model, _features(pool, utterance, at), ids).argmax(-1) * 0.02 - at / 100
        for index, begin, end in _words(tokenizer, utterance):
            # The row that writes a word's first token is that of the token before it.
            seen = where[:, :, len(prefix) + index - 1]
            right += ((seen > begin - _NEAR) & (seen < end + _NEAR)) / len(utterance.words)
    best = right.flatten().argsort(descending=True).tolist()
    shares = (right / _SAMPLES).flatten()
    print("heads:", [(i // HEADS, i % HEADS, round(float(shares[i]), 2)) for i in best], flush=True)
    chosen = [i for i in best[:4] if shares[i] > 0.9 * shares[best[0]]]
    return [(i // HEADS, i % HEADS) for i in chosen]
