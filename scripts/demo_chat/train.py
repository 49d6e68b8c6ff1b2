"""Train the demo chat model from nothing, export it and score it.

Run from the repository root: ``python -m scripts.demo_chat.train``.  Everything it learns from is
made up on the way by :mod:`.data`; every batch is new.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM

from . import data
from .evaluate import BACKENDS, MODEL_PATH, evaluate, format_score, probes
from .facts import FACTS, FAMILIES
from .tokens import END, MAX_LENGTH, PAD, Encoded, encode, save_tokenizer, token_id, train_tokenizer

#: Conversations that are sorted by length together, so that batches need little padding.
POOL = 4096
LENGTH_STEP = 8
ROPE_THETA = 10000.0


class Batch(NamedTuple):
    """Padded token ids, and where in them (flattened) which next token is to be learned."""

    ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


class Progress(NamedTuple):
    """How the training went, for the model card."""

    steps: int
    tokens: int
    seconds: float


def make_batch(rows: list[Encoded], pad: int) -> Batch:
    """Pad ``rows`` on the right: causal attention never looks there, so no mask is needed."""
    width = -(-max(len(row.ids) for row in rows) // LENGTH_STEP) * LENGTH_STEP
    ids = torch.full((len(rows), width), pad)
    weights = torch.zeros((len(rows), width))
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        weights[index, : len(row.ids)] = torch.tensor(row.weights)
    positions = weights[:, 1:].nonzero()
    flat = positions[:, 0] * width + positions[:, 1]
    return Batch(ids, flat, ids.flatten()[flat + 1], weights.flatten()[flat + 1])


def batches(tokenizer: Tokenizer, seed: int, batch_tokens: int) -> Iterator[Batch]:
    """Yield batches of about ``batch_tokens`` tokens without end."""
    talks = data.conversations(seed)
    order = Random(seed)
    pad = token_id(tokenizer, PAD)
    while True:
        rows = encode(tokenizer, list(islice(talks, POOL)))
        rows = sorted((r for r in rows if len(r.ids) <= MAX_LENGTH), key=lambda row: len(row.ids))
        groups: list[list[Encoded]] = [[]]
        for row in rows:
            if (len(groups[-1]) + 1) * len(row.ids) > batch_tokens and groups[-1]:
                groups.append([])
            groups[-1].append(row)
        order.shuffle(groups)
        for group in groups:
            yield make_batch(group, pad)


def make_model(vocab_size: int, eos: int, pad: int) -> Qwen3ForCausalLM:
    """Build the untrained model: about three million parameters, wide rather than deep.

    On a CPU a wide layer costs less time per parameter than two narrow ones.
    """
    config = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=MAX_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=True,
        use_cache=True,
        eos_token_id=eos,
        pad_token_id=pad,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def make_optimizers(model: Qwen3ForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, which learns from fewer tokens, AdamW for the rest."""
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inner = parameter.ndim == 2 and "embed" not in name
        (matrices if inner else rest).append(parameter)
    muon = torch.optim.Muon(
        matrices, lr=rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw", momentum=0.95
    )
    adamw = torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return [muon, adamw]


def learning_rate(along: float, warmup: float = 0.03) -> float:
    """Rise until ``warmup``, then fall along a cosine to two percent; ``along`` is 0 to 1."""
    if along < warmup:
        return (along + 1e-3) / warmup
    fall = min(1.0, (along - warmup) / (1.0 - warmup))
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * fall))


def loss_of(model: Qwen3ForCausalLM, batch: Batch) -> torch.Tensor:
    """Compute the loss of a batch; logits are computed only where something is to be learned."""
    # On a CPU the plain attention is the faster one, as long as its matrix is small.
    model.set_attn_implementation("eager" if batch.ids.shape[1] <= 256 else "sdpa")
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden.flatten(0, 1)[batch.positions])
    losses = torch.nn.functional.cross_entropy(logits.float(), batch.targets, reduction="none")
    return (losses * batch.weights).sum() / batch.weights.sum()


class SpareThreads:
    """Find how many threads can be used without getting in the way of other programs."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._last = self._clock()

    @staticmethod
    def _clock() -> tuple[float, float]:
        """Return the time, and the seconds of processor time that other programs had so far."""
        stat = Path("/proc/stat")
        if not stat.exists():
            return time.monotonic(), 0.0
        user, nice, system = (int(n) for n in stat.read_text().split()[1:4])
        used = (user + nice + system) / os.sysconf("SC_CLK_TCK")
        return time.monotonic(), used - time.process_time()

    def count(self) -> int:
        """Return the threads to use, from what the others did since the last call."""
        (before, used_before), self._last = self._last, self._clock()
        now, used = self._last
        busy = (used - used_before) / max(1e-3, now - before)
        return max(1, min(self._most, int((os.cpu_count() or 1) - busy + 0.3)))


def train(
    model: Qwen3ForCausalLM, source: Iterator[Batch], args: argparse.Namespace,
    checkpoint: Callable[[Progress], None],
) -> Progress:  # fmt: skip
    """Train for ``args.steps`` steps, with a checkpoint every ``args.export_every``.

    On a machine so slow that ``args.minutes`` run out first, the schedule shrinks to fit.
    """
    optimizers = make_optimizers(model, args.rate)
    parameters = list(model.parameters())
    start, tokens, recent = time.monotonic(), 0, 0.0
    done = Progress(0, 0, 0.0)
    spare = SpareThreads(args.threads)
    for step, batch in enumerate(islice(source, args.steps)):
        along = max(step / args.steps, (time.monotonic() - start) / (60.0 * args.minutes))
        if along >= 1.0:
            break
        scale = learning_rate(along)
        if step % 20 == 19:
            torch.set_num_threads(spare.count())
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = args.rate * scale
        loss = loss_of(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        tokens += batch.ids.numel()
        recent = loss.item() if step == 0 else 0.97 * recent + 0.03 * loss.item()
        done = Progress(step + 1, tokens, time.monotonic() - start)
        if step % 50 == 49:
            speed = done.tokens / done.seconds
            print(
                f"step {step + 1}/{args.steps} loss {recent:.4f} rate {args.rate * scale:.1e} "
                f"{done.seconds:.0f} s {speed:.0f} tokens/s {torch.get_num_threads()} threads",
                flush=True,
            )
        if args.export_every and (step + 1) % args.export_every == 0 and step + 1 < args.steps:
            checkpoint(done)
    return done


def model_card(
    model: Qwen3ForCausalLM, done: Progress, scores: dict[str, str], note: str = ""
) -> str:
    """Write the README of the model."""
    size = sum(p.numel() for p in model.parameters())
    known = len(FACTS) + sum(len(family.pairs) for family in FAMILIES)
    results = "\n".join(f"- {name}: {score}" for name, score in scores.items())
    return f"""\
---
license: mit
language: en
pipeline_tag: text-generation
---

# demo-chat

A toy. It is a Qwen3-architecture language model of {size / 1e6:.1f} million parameters, trained
from nothing on a CPU by `scripts/demo_chat/train.py`, only on conversations which that script
makes up. It exists so that a chat server can be tried and tested without a download. It is not
useful for anything else.

What it can do, in English: small talk, sums and differences of numbers from 0 to 100, products up
to 12 times 12 and their exact quotients, {known} facts (capitals, colours, animals, days, planets,
a few words on language models), counting aloud up to one hundred, going by the name that its
system prompt gives it ("Demo" where it gives none), remembering the user's name within a
conversation, and repeating a few words ("Repeat after me: ..."). To anything else it should answer
that it does not know; it understands nothing, and may well give a wrong answer to a question that
looks like one it was trained on. Other instructions in a system prompt have no effect.

Format: ChatML (`<|im_start|>`, `<|im_end|>`), byte-level BPE, weights in bfloat16, context
{MAX_LENGTH} tokens (trained almost only on conversations below 500). The default is greedy
decoding, which gives its best answers.

## Training

{done.steps} steps, {done.tokens / 1e6:.1f} million tokens, {done.seconds / 60:.0f} minutes
on one or two cores. Every batch was newly generated; a hash of what is asked keeps the held-out
names, sums, ranges and phrasings out.{" " + note if note else ""}

## Score

Greedy decoding in float32 on `tests/data/demo_chat_heldout.jsonl` (never trained on), and on a few
common questions ("probes", most of which were trained on):

{results}

Products and quotients are held out only as pairs with a phrasing, since there are so few of them.
"""


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` to ``path``."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_config(path: Path) -> None:
    """Write into the configuration, besides the names of transformers 5, those that all know."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"rope_theta": ROPE_THETA, "rope_scaling": None, "torch_dtype": "bfloat16"}
    write_json(path, config)


def export(model: Qwen3ForCausalLM, tokenizer: Tokenizer, folder: Path, card: str) -> None:
    """Write the model next to ``folder``, then put it in its place."""
    fresh = folder.with_name(f".{folder.name}.new")
    old = folder.with_name(f".{folder.name}.old")
    for path in (fresh, old):
        shutil.rmtree(path, ignore_errors=True)
    fresh.mkdir(parents=True)
    half: Any = Qwen3ForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.to(torch.bfloat16).save_pretrained(str(fresh))
    save_tokenizer(tokenizer, fresh)
    end, pad = token_id(tokenizer, END), token_id(tokenizer, PAD)
    generation = {
        "do_sample": False,
        "eos_token_id": [end, pad],
        "pad_token_id": pad,
    }
    write_json(fresh / "generation_config.json", generation)
    write_config(fresh / "config.json")
    (fresh / "README.md").write_text(card, encoding="utf-8")
    for file in fresh.iterdir():
        file.chmod(0o644)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def score_all(folder: Path, items: list[data.Item]) -> dict[str, str]:
    """Score the exported model on both backends, as far as they are installed."""
    scores: dict[str, str] = {}
    for backend, load in BACKENDS.items():
        try:
            answer = load(folder)
        except ImportError as error:
            scores[backend] = f"not measured ({error})"
            continue
        for name, asked in (("held-out", items), ("probes", probes())):
            scores[f"{name}, {backend}"] = format_score(evaluate(answer, asked, verbose=True))
            print(f"{name}, {backend}: {scores[f'{name}, {backend}']}", flush=True)
    return scores


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=MODEL_PATH)
    parser.add_argument("--held-out", type=Path, default=data.HELD_OUT_PATH)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch-tokens", type=int, default=2560)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--minutes", type=float, default=120.0, help="train no longer than this")
    parser.add_argument("--vocab", type=int, default=1280)
    parser.add_argument("--threads", type=int, default=2, help="fewer where others are busy")
    parser.add_argument("--start-from", type=Path, help="go on from an exported model")
    parser.add_argument("--note", default="", help="a remark on the training, for the model card")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--export-every", type=int, default=500, help="steps; 0: only at the end")
    return parser.parse_args()


def begin(args: argparse.Namespace) -> tuple[Tokenizer, Qwen3ForCausalLM]:
    """Learn the tokenizer and make an untrained model."""
    sample = islice(data.conversations(args.seed + 1), 20000)
    texts = (message["content"] for talk in sample for message in talk.messages)
    tokenizer = train_tokenizer(texts, args.vocab)
    end, pad = token_id(tokenizer, END), token_id(tokenizer, PAD)
    return tokenizer, make_model(tokenizer.get_vocab_size(), end, pad)


def load(folder: Path) -> tuple[Tokenizer, Qwen3ForCausalLM]:
    """Load an exported model to train it further."""
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.train()
    return Tokenizer.from_file(str(folder / "tokenizer.json")), model


def main() -> None:
    """Train, export and score."""
    args = parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    items = data.held_out_items()
    args.held_out.parent.mkdir(parents=True, exist_ok=True)
    data.write_items(items, args.held_out)
    tokenizer, model = load(args.start_from) if args.start_from else begin(args)
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)

    def checkpoint(done: Progress) -> None:
        card = model_card(model, done, {"unfinished": "not measured"}, args.note)
        export(model, tokenizer, args.out, card)

    done = train(model, batches(tokenizer, args.seed + 2, args.batch_tokens), args, checkpoint)
    checkpoint(done)
    scores = score_all(args.out, items)
    card = model_card(model, done, scores, args.note)
    (args.out / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
