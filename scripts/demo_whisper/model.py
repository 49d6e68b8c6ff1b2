"""The model while it is trained, and as the Hugging Face folder that is served.

Trained is a plain :class:`transformers.WhisperForConditionalGeneration` over the part of the
vocabulary that is used (:class:`.tokens.Vocabulary`); exported, the same over the whole of it.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import WhisperConfig, WhisperForConditionalGeneration

from . import tokens as T

WIDTH, HEADS = 96, 3
ENCODER_LAYERS, DECODER_LAYERS = 6, 3
#: The cross-attention heads (layer, head) that are taught to look where the words are.
GUIDED = ((1, 1), (2, 2))
EMBEDDING = "model.decoder.embed_tokens.weight"


def make_config(vocab_size: int, end: int, start: int) -> WhisperConfig:
    """Make the configuration: OpenAI's proportions (a feed-forward of four widths), but smaller."""
    return WhisperConfig(
        vocab_size=vocab_size,
        d_model=WIDTH,
        encoder_layers=ENCODER_LAYERS,
        decoder_layers=DECODER_LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH,
        num_mel_bins=80,
        max_source_positions=1500,
        max_target_positions=448,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )


class Trained(nn.Module):
    """The small-vocabulary Whisper with a phoneme head beside it that only helps to train."""

    def __init__(self, vocabulary: T.Vocabulary, phonemes: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        end, start = vocabulary.number(T.END), vocabulary.number(T.START)
        config = make_config(len(vocabulary), end, start)
        self.whisper: Any = WhisperForConditionalGeneration(config)
        self.phonemes = nn.Linear(WIDTH, phonemes + 1)
        with torch.no_grad():
            embedding = self.embedding
            embedding.normal_(std=0.04)
            # Neighbouring times begin alike, as neighbouring positions of the encoder are.
            times = self.whisper.model.encoder.embed_positions.weight
            rows = [vocabulary.number(T.TIME + step) for step in range(len(times))]
            embedding[rows] += 0.05 * times

    @property
    def embedding(self) -> torch.Tensor:
        """The token embedding, which is also the output layer."""
        weight: torch.Tensor = self.whisper.model.decoder.embed_tokens.weight
        return weight

    def attend_with(self, implementation: str) -> None:
        """Choose how attention is computed: ``eager`` or ``sdpa``."""
        self.whisper.set_attn_implementation(implementation)

    def encode(self, features: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Encode windows of any length: (batch, 80, frames) to (batch, frames / 2, width).

        ``offsets`` are the windows' first positions in the 30 s that they are taken from.
        """
        encoder = self.whisper.model.encoder
        hidden = nn.functional.gelu(encoder.conv1(features))
        hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        positions = offsets[:, None] + torch.arange(hidden.shape[1])
        hidden = hidden + encoder.embed_positions.weight[positions]
        for layer in encoder.layers:
            hidden = layer(hidden, None)
        return encoder.layer_norm(hidden)  # type: ignore[no-any-return]

    def decode(self, ids: torch.Tensor, encoded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the decoder: token numbers (batch, length) to hidden states and where it looks.

        The second are the weights of the guided heads, (heads, batch, length, positions).
        """
        self.attend_with("eager")  # the only one that returns its weights
        out = self.whisper.model.decoder(
            input_ids=ids, encoder_hidden_states=encoded, use_cache=False, output_attentions=True
        )
        looks = torch.stack([out.cross_attentions[layer][:, head] for layer, head in GUIDED])
        return out.last_hidden_state, looks

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Score tokens; the first stands for all unused ones, so that it counts as many."""
        scores = nn.functional.linear(hidden, self.embedding).float()
        shift = torch.zeros(scores.shape[-1])
        shift[0] = math.log(self.vocabulary.unused)
        return scores + shift

    def whole_state(self) -> dict[str, torch.Tensor]:
        """Return the weights over the whole vocabulary."""
        state = dict(self.whisper.state_dict())
        whole = state[EMBEDDING][0].repeat(T.SIZE, 1)
        whole[self.vocabulary.ids] = state[EMBEDDING][1:]
        return state | {EMBEDDING: whole, "proj_out.weight": whole}

    def load_whole(self, folder: Path) -> None:
        """Take the weights of an exported model."""
        other: Any = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        state = dict(other.state_dict())
        whole = state[EMBEDDING]
        unused = next(i for i in range(T.END) if self.vocabulary.number(i) == 0)
        rows = torch.cat([whole[unused : unused + 1], whole[self.vocabulary.ids]])
        self.whisper.load_state_dict(state | {EMBEDDING: rows, "proj_out.weight": rows})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _generation(tokenizer: Tokenizer, alignment: list[tuple[int, int]]) -> dict[str, Any]:
    return {
        "alignment_heads": alignment,
        "begin_suppress_tokens": [T.BLANK, T.END],
        "bos_token_id": T.END,
        "decoder_start_token_id": T.START,
        "eos_token_id": T.END,
        "is_multilingual": True,
        "lang_to_id": {f"<|{code}|>": T.LANGUAGE + i for i, code in enumerate(T.LANGUAGES)},
        "max_initial_timestamp_index": 50,
        "max_length": 448,
        "no_timestamps_token_id": T.NO_TIMESTAMPS,
        "pad_token_id": T.END,
        "prev_sot_token_id": T.PREVIOUS,
        "return_timestamps": False,
        "suppress_tokens": T.suppressed(tokenizer),
        "task_to_id": {"transcribe": T.TRANSCRIBE, "translate": T.TRANSLATE},
    }


_PREPROCESSOR = {
    "chunk_length": 30,
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 80,
    "hop_length": 160,
    "n_fft": 400,
    "n_samples": 480000,
    "nb_max_frames": 3000,
    "padding_side": "right",
    "padding_value": 0.0,
    "processor_class": "WhisperProcessor",
    "return_attention_mask": False,
    "sampling_rate": 16000,
}


def export(
    model: Trained, tokenizer: Tokenizer, folder: Path, alignment: list[tuple[int, int]], card: str
) -> None:
    """Write the model next to ``folder``, then put it in its place."""
    fresh = folder.with_name(f".{folder.name}.new")
    old = folder.with_name(f".{folder.name}.old")
    for path in (fresh, old):
        shutil.rmtree(path, ignore_errors=True)
    fresh.mkdir(parents=True)
    whole: Any = WhisperForConditionalGeneration(make_config(T.SIZE, T.END, T.START))
    whole.load_state_dict(model.whole_state())
    whole.to(torch.float16).save_pretrained(str(fresh))
    T.save_tokenizer(tokenizer, fresh)
    _write_json(fresh / "preprocessor_config.json", _PREPROCESSOR)
    _write_json(fresh / "generation_config.json", _generation(tokenizer, alignment))
    config = json.loads((fresh / "config.json").read_text(encoding="utf-8"))
    _write_json(fresh / "config.json", config | {"torch_dtype": "float16"})
    (fresh / "README.md").write_text(card, encoding="utf-8")
    for file in fresh.iterdir():
        file.chmod(0o644)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
