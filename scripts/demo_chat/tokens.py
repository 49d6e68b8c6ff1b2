"""The demo model's tokenizer and chat template, and the encoding of conversations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from .data import Conversation, Message

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
MAX_LENGTH = 2048

CHAT_TEMPLATE = """\
{%- for message in messages %}
    {%- set role = 'system' if message.role == 'developer' else message.role %}
    {{- '<|im_start|>' + role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- elif message.content %}
        {%- for part in message.content if part.type == 'text' %}
            {{- part.text }}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


class Encoded(NamedTuple):
    """A conversation as tokens; ``weights`` says how much to learn to predict each of them."""

    ids: list[int]
    weights: list[float]


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Look up a token that is known to be there."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"the tokenizer has no token {token!r}")
    return int(found)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn a byte-level BPE in which every digit is a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in (PAD, START, END)],
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``, the chat template in the latter.

    The configuration is written by hand: what transformers 5 saves, older ones cannot read.
    """
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_LENGTH,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "bos_token": None,
        "eos_token": END,
        "pad_token": PAD,
        "unk_token": None,
        "additional_special_tokens": [START, END],
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _pieces(message: Message) -> tuple[str, str]:
    """Split a message, as the template writes it, into what is given and what is learned."""
    if message["role"] == "assistant":
        return "assistant\n", message["content"]
    return f"{message['role']}\n{message['content']}", ""


def encode(tokenizer: Tokenizer, talks: Sequence[Conversation]) -> list[Encoded]:
    """Encode conversations as the chat template would, all in one go."""
    texts = [piece for talk in talks for message in talk.messages for piece in _pieces(message)]
    pieces = iter(tokenizer.encode_batch(texts, add_special_tokens=False))
    start, end = token_id(tokenizer, START), token_id(tokenizer, END)
    newline = tokenizer.encode("\n", add_special_tokens=False).ids
    out: list[Encoded] = []
    for talk in talks:
        ids: list[int] = []
        weights: list[float] = []
        for message in talk.messages:
            given, taught = next(pieces).ids, next(pieces).ids
            answer = message["role"] == "assistant"
            # Tokens of long answers weigh less, or counting to one hundred would be all there is.
            weight = (len(taught) + 1) ** -0.5 if answer else 0.0
            ids += [start, *given, *taught, end, *newline]
            weights += [0.0] * (1 + len(given)) + [weight] * (len(taught) + 1)
            weights += [0.0] * len(newline)
        out.append(Encoded(ids, weights))
    return out
