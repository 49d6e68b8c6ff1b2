"""The words that the bench's checkpoints speak, and prompts made of them.

Every word is one token, and any sequence of words is encoded into just the tokens it was
decoded from, so that lengths are exact and an answer that is sent back continues its prefix.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, product

SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
PAD, END, SYSTEM, USER, ASSISTANT = range(len(SPECIAL))
BYTES = 256
FIRST_WORD = len(SPECIAL) + BYTES
"""Id of the first word: special tokens and the 256 bytes come before."""

_SYLLABLES = ["".join(pair) for pair in product("bdfghjklmnprstvz", "aeiou")]


def words(count: int) -> list[str]:
    """The first `count` words: made of syllables, all different, plain lower-case ASCII."""
    longer = (product(_SYLLABLES, repeat=length) for length in (2, 3))
    spoken = ("".join(parts) for sized in longer for parts in sized)
    return list(islice(spoken, count))


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat, as words."""

    role: str
    content: str

    def json(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


class Speaker:
    """Draws texts of known length; the same seed gives the same texts.

    `vocabulary` is the checkpoint's, special tokens and bytes included.
    """

    def __init__(self, vocabulary: int, seed: int) -> None:
        self._words = words(vocabulary - FIRST_WORD)
        self._ids = {word: FIRST_WORD + place for place, word in enumerate(self._words)}
        self._random = random.Random(seed)

    def text(self, tokens: int) -> str:
        """So many random words."""
        return " ".join(self._random.choices(self._words, k=tokens))

    def user(self, tokens: int) -> Message:
        return Message("user", self.text(tokens))

    def ids(self, text: str) -> list[int]:
        """Token ids of a text of our words. Raises KeyError for any other."""
        return [self._ids[word] for word in text.split()]

    def chat_ids(self, messages: Sequence[Message]) -> list[int]:
        """What the checkpoint's chat template makes of `messages`, up to the answer."""
        roles = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
        spoken = [[roles[m.role], *self.ids(m.content), END] for m in messages]
        return [token for turn in spoken for token in turn] + [ASSISTANT]
