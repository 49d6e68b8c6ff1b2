"""Tiny random-weight Whisper checkpoints in both published layouts, and what they should compute.

The tokenizer is Whisper's in
small: bytes and a few merges, then every special token and time stamp in Whisper's order.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from mlxsrv.bench.whispers import OPENAI_NAMES, OPENAI_SIZES

WIDTH = 64
ALIGNMENT_HEADS = ((1, 0), (0, 1), (1, 1))
SPECIAL = ("<|endoftext|>", "<|startoftranscript|>")
AFTER_LANGUAGES = (
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)
CORPUS = ["hello world, this is a test of the speech model. How are you today?"] * 4

Floats = NDArray[np.float32]


def build(
    folder: Path,
    *,
    mels: int = 80,
    layers: tuple[int, int] = (2, 2),
    heads: int = 4,
    width: int = WIDTH,
    audio_context: int = 1500,
    languages: int | None = 99,
    scale: float = 3.0,
    seed: int = 0,
) -> Path:
    """Writes a transformers folder with its tokenizer.

    `layers` are the encoder's and the decoder's; `languages` None makes an English-only model.
    Another `audio_context` than Whisper's makes other windows than 30 s.
    """
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    ids = write_tokenizer(folder, languages)
    config = WhisperConfig(
        vocab_size=len(ids),
        num_mel_bins=mels,
        max_source_positions=audio_context,
        d_model=width,
        encoder_layers=layers[0],
        decoder_layers=layers[1],
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        pad_token_id=ids["<|endoftext|>"],
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"],
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )
    model = WhisperForConditionalGeneration(config).eval()
    _randomize(model, seed, scale)
    _set_generation(model, ids, languages)
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def _randomize(model: torch.nn.Module, seed: int, scale: float) -> None:
    """Weights large enough that every token and every moment shows."""
    rng = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("encoder.embed_positions.weight"):
            continue
        noise = torch.randn(parameter.shape, generator=rng)
        if parameter.ndim > 1:
            inputs = scale**2 if "embed" in name else parameter[0].numel()
            parameter.copy_(noise * scale / inputs**0.5)
        else:
            parameter.copy_(0.2 * noise + (1.0 if "norm.weight" in name else 0.0))


def _set_generation(model: Any, ids: dict[str, int], languages: int | None) -> None:
    settings: dict[str, Any] = {
        "is_multilingual": languages is not None,
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "alignment_heads": [list(pair) for pair in ALIGNMENT_HEADS],
        "max_initial_timestamp_index": 50,
        "max_length": 448,
        "suppress_tokens": [],
        "begin_suppress_tokens": [ids["<|endoftext|>"]],
        "return_timestamps": False,
        "forced_decoder_ids": None,
        "pad_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|endoftext|>"],
        "decoder_start_token_id": ids["<|startoftranscript|>"],
    }
    if languages is not None:
        settings["lang_to_id"] = {f"<|{code}|>": ids[f"<|{code}|>"] for code in codes(languages)}
        settings["task_to_id"] = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    # Otherwise what a model configuration does not know is dropped when it is read again.
    model.generation_config._from_model_config = False


def codes(count: int) -> list[str]:
    """Whisper's language codes in the order of their tokens; the hundredth is large-v3's."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    return list(LANGUAGES)[:count]


def write_tokenizer(folder: Path, languages: int | None) -> dict[str, int]:
    """A tokenizer and a feature extractor; gives the ids of all tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    end = SPECIAL[0]
    tokenizer = WhisperTokenizerFast(
        tokenizer_object=bpe, unk_token=end, bos_token=end, eos_token=end, pad_token=end
    )
    named = [f"<|{code}|>" for code in codes(languages or 99)]
    special = [SPECIAL[1], *named, *AFTER_LANGUAGES]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    stamps = [f"<|{number * 0.02:.2f}|>" for number in range(1501)]
    tokenizer.add_tokens([AddedToken(stamp, special=False, normalized=False) for stamp in stamps])
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
    ids: dict[str, int] = tokenizer.get_vocab()
    return ids


def as_mlx_whisper(source: Path, folder: Path, *, packed: bool = False) -> Path:
    """The same model as mlx-whisper's conversions write it: no tokenizer, no encoder positions,
    the alignment heads among the tensors; `packed` as weights.npz."""
    folder.mkdir(parents=True)
    config = json.loads((source / "config.json").read_text())
    sizes: dict[str, Any] = {new: config[old] for new, old in OPENAI_SIZES.items()}
    (folder / "config.json").write_text(json.dumps(sizes | {"model_type": "whisper"}))
    tensors = {"alignment_heads": torch.tensor(ALIGNMENT_HEADS, dtype=torch.int32)}
    for name, tensor in load_file(source / "model.safetensors").items():
        if name in {"model.encoder.embed_positions.weight", "proj_out.weight"}:
            continue
        ours = reduce(lambda known, pair: known.replace(*pair), OPENAI_NAMES, name)
        turned = ".conv" in name and tensor.ndim == 3
        tensors[ours] = tensor.transpose(1, 2).contiguous() if turned else tensor
    if packed:
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        np.savez(folder / "weights.npz", **arrays)  # type: ignore[arg-type]
    else:
        save_file(tensors, folder / "weights.safetensors")
    return folder


def quantize_for_mlx(folder: Path, *, bits: int = 8, group_size: int = 32) -> Path:
    """Quantises an mlx-whisper folder in place. Gives a folder beside it with the very same
    numbers as floats."""
    import mlx.core as mx

    rounded = Path(shutil.copytree(folder, folder.with_name(f"{folder.name}-rounded")))
    arrays: dict[str, mx.array] = mx.load(str(folder / "weights.safetensors"))
    packed, whole = dict(arrays), dict(arrays)
    for name, array in arrays.items():
        if array.ndim == 2 and name.endswith(".weight"):
            stem = name.removesuffix(".weight")
            parts = mx.quantize(array, group_size=group_size, bits=bits)
            packed |= zip((name, f"{stem}.scales", f"{stem}.biases"), parts, strict=True)
            whole[name] = mx.dequantize(*parts, group_size=group_size, bits=bits)
    mx.save_safetensors(str(folder / "weights.safetensors"), packed)
    mx.save_safetensors(str(rounded / "weights.safetensors"), whole)
    config = json.loads((folder / "config.json").read_text())
    config["quantization"] = {"group_size": group_size, "bits": bits}
    (folder / "config.json").write_text(json.dumps(config))
    return rounded


def random_mel(seed: int, *, mels: int = 80, frames: int = 3000) -> Floats:
    """A log-mel window [frames, mels] as no sound has it."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1.5, (frames, mels)).astype(np.float32)


class Reference:
    """transformers' own model, one row at a time."""

    def __init__(self, folder: Path) -> None:
        from transformers import WhisperForConditionalGeneration

        self._model: Any = WhisperForConditionalGeneration.from_pretrained(
            folder, attn_implementation="eager"
        )
        self._model.eval()

    @torch.inference_mode()
    def logits(self, mel: Floats, tokens: Sequence[int]) -> Floats:
        """[tokens, vocabulary]"""
        found: Floats = self._forward(mel, tokens).logits[0].numpy()
        return found

    @torch.inference_mode()
    def attention(self, mel: Floats, tokens: Sequence[int]) -> Floats:
        """Of the alignment heads, how each token's attention is spread [heads, tokens, moments]."""
        weights = self._forward(mel, tokens, output_attentions=True).cross_attentions
        found: Floats = torch.stack([weights[x][0, y] for x, y in ALIGNMENT_HEADS]).numpy()
        return found

    def _forward(self, mel: Floats, tokens: Sequence[int], **more: Any) -> Any:
        features = torch.from_numpy(mel.T[None].copy())
        ids = torch.tensor([list(tokens)])
        return self._model(input_features=features, decoder_input_ids=ids, **more)
