"""The shape of the two models, how text goes into them, and how they are trained and exported."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from transformers import BertConfig

from scripts.demo_chat.train import learning_rate, make_optimizers

from .tokens import MAX_LENGTH, save_tokenizer

#: Of so many sentences more the passages of a batch consist, and how often; the longest ones fill
#: the context, so that every position is trained.
OTHERS = {0: 0.66, 1: 0.14, 2: 0.1, 4: 0.07, 20: 0.03}
#: Into how many parts a batch is split by length.
PARTS = 4


def make_config(tokenizer: Tokenizer, dropout: float = 0.0, **options: Any) -> BertConfig:
    """Configure a BERT of just under a million parameters."""
    return BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=384,
        max_position_embeddings=MAX_LENGTH,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=0,
        # The plain attention is the faster one to train on a CPU, and it is not exported.
        attn_implementation="eager",
        **options,
    )


def encode(
    tokenizer: Tokenizer, texts: Sequence[str] | Sequence[tuple[str, str]]
) -> dict[str, torch.Tensor]:
    """Encode texts, or pairs of them, as the padded input of a model, each [texts, tokens]."""
    tokenizer.enable_truncation(MAX_LENGTH)
    tokenizer.enable_padding()
    rows = tokenizer.encode_batch(list(texts))
    return {
        "input_ids": torch.tensor([row.ids for row in rows]),
        "token_type_ids": torch.tensor([row.type_ids for row in rows]),
        "attention_mask": torch.tensor([row.attention_mask for row in rows]),
    }


def in_parts(
    compute: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    tokenizer: Tokenizer,
    texts: Sequence[Any],
) -> torch.Tensor:
    """Compute a row for every text, those of about one length together: less padding to compute."""
    order = sorted(range(len(texts)), key=lambda index: len("".join(texts[index])))
    step = -(-len(order) // PARTS)
    parts = [order[at : at + step] for at in range(0, len(order), step)]
    with torch.autocast("cpu", torch.bfloat16):
        rows = [compute(encode(tokenizer, [texts[i] for i in part])) for part in parts]
    return torch.cat(rows).float()[torch.tensor(order).argsort()]


class Run(NamedTuple):
    """How a training went, for the model card."""

    parameters: int
    steps: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.steps} steps, {self.seconds / 60:.0f} minutes on a core that was shared"


def train(model: Any, loss_of: Callable[[], torch.Tensor], steps: int, rate: float) -> Run:
    """Train with the loss that ``loss_of`` computes of a new batch at every step."""
    torch.set_num_threads(1)
    optimizers = make_optimizers(model, rate)
    parameters = list(model.parameters())
    start, recent = time.monotonic(), 0.0
    model.train()
    for step in range(steps):
        scale = learning_rate(step / steps)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
        loss = loss_of()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        recent = loss.item() if step == 0 else 0.97 * recent + 0.03 * loss.item()
        if step % 50 == 49:
            seconds = time.monotonic() - start
            print(f"step {step + 1}/{steps} loss {recent:.4f} {seconds:.0f} s", flush=True)
    model.eval()
    return Run(model.num_parameters(), steps, time.monotonic() - start)


def write_json(path: Path, content: object) -> None:
    """Write ``content`` to ``path``."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def export(model: Any, tokenizer: Tokenizer, folder: Path, extra: Mapping[str, object]) -> None:
    """Write the model, its tokenizer and ``extra`` JSON files, then put all in place at once."""
    fresh, old = (folder.with_name(f".{folder.name}.{state}") for state in ("new", "old"))
    for path in (fresh, old):
        shutil.rmtree(path, ignore_errors=True)
    fresh.mkdir(parents=True)
    model.save_pretrained(str(fresh))
    save_tokenizer(tokenizer, fresh)
    for name, content in extra.items():
        write_json(fresh / name, content)
    (fresh / "model.safetensors").chmod(0o644)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
