"""Triples of sentences that teach and test the two models.

Everything is drawn by seeded random numbers from :mod:`.topics`; nothing is downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Literal

from scripts.demo_chat import phrases as P
from scripts.demo_chat.data import pseudo_word, roughen

from .topics import Topic, draw, is_held_out, of_side, rival, stranger, words_of

#: ``near``: two wordings of one topic; ``answer``: a question and a statement that answers it.
Task = Literal["near", "answer"]

#: Of how many held-out triples of every sort the documents are passages of so many sentences more.
PASSAGES = {0: 0.75, 1: 0.15, 2: 0.1}
#: How many of the texts that are trained are put in other words at random.
BLURRED = 0.4


@dataclass(frozen=True)
class Triple:
    """``positive`` is related to ``anchor`` (for a reranker: answers it), ``negative`` is not.

    ``hard`` says that the negative was chosen to read like the anchor.
    """

    category: str
    hard: bool
    anchor: str
    positive: str
    negative: str


@dataclass(frozen=True)
class Text:
    """A sentence or a passage, and the claims of all that it speaks of."""

    text: str
    claims: frozenset[str]


@dataclass(frozen=True)
class Example:
    """A triple with its claims, so that what is unrelated within a batch can be told."""

    category: str
    hard: bool
    anchor: Text
    positive: Text
    negative: Text

    @property
    def triple(self) -> Triple:
        """The texts alone."""
        texts = (self.anchor.text, self.positive.text, self.negative.text)
        return Triple(self.category, self.hard, *texts)


def _pair(rng: Random, topic: Topic, task: Task, held: bool) -> tuple[str, str] | None:
    """Draw two related sentences of one side, or None where the topic has no two."""
    asked, said = of_side(topic.questions, held), of_side(topic.statements, held)
    if task == "answer" or (asked and said and rng.random() < 0.5):
        return (rng.choice(asked), rng.choice(said)) if asked and said else None
    if len(asked + said) < 2:
        return None
    anchor, other = rng.sample(asked + said, 2)
    return anchor, other


def _negative(rng: Random, topic: Topic, stated: bool, hard: bool, held: bool) -> Text:
    """Draw a sentence, or a statement where it is ``stated``, that is unrelated to ``topic``."""
    while True:
        other = (rival if hard else stranger)(rng, topic)
        texts = of_side(other.statements if stated else other.sentences, held)
        if texts:
            return Text(rng.choice(texts), other.claims)


def _passage(rng: Random, topic: Topic, main: Text, others: int, held: bool) -> Text:
    """Hide a text among ``others`` statements that are unrelated to ``topic``."""
    texts = [_negative(rng, topic, True, rng.random() < 0.5, held) for _ in range(others)]
    texts.insert(rng.randint(0, others), main)
    claims = frozenset[str]().union(*(text.claims for text in texts))
    return Text(" ".join(text.text for text in texts), claims)


def _word(rng: Random) -> str:
    """Draw any word: of the world, or one that nobody knows."""
    return rng.choice(P.NOUNS) if rng.random() < 0.5 else pseudo_word(rng)


def _is_loose(word: str, first: bool, kept: set[str]) -> bool:
    """Say whether a word may go: a plain one that is neither a name nor a number nor kept."""
    plain = word.strip(".?!")
    return plain.isalpha() and plain.lower() not in kept and (plain.islower() or first)


def _blurred(rng: Random, text: str, subject: str) -> str:
    """Drop, swap, replace and add words, but not those that the text is about."""
    kept = set(words_of(subject))
    words: list[str] = []
    for place, word in enumerate(text.split(" ")):
        fate = rng.random() if _is_loose(word, not place, kept) else 0.5
        if fate < 0.1:
            continue
        before = len(words) - (fate < 0.16)
        words.insert(before, _word(rng) if fate >= 0.92 else word)
    if rng.random() < 0.3:
        words.insert(rng.randint(0, len(words)), _word(rng))
    return " ".join(words) or text


def typed(rng: Random, text: Text, subject: str) -> Text:
    """Vary a text the way people do when they type, or in words that the model does not know."""
    lead = rng.choice(P.ASK_PREFIXES).replace("@", P.DEFAULT_NAME) if rng.random() < 0.05 else ""
    body = _blurred(rng, text.text, subject) if rng.random() < BLURRED else text.text
    changed = roughen(rng, lead + body)
    return Text(text.text if is_held_out(changed) else changed, text.claims)


def example(
    rng: Random, task: Task, *, held: bool = False, sort: str | None = None, others: int = 0
) -> Example:
    """Draw an example from the training side, carelessly typed, or from the ``held`` one.

    With ``others`` a stated document is a passage with so many unrelated statements.
    """
    pair = None
    while pair is None:
        topic = draw(rng, sort)
        pair = _pair(rng, topic, task, held)
    hard, stated = rng.random() < 0.5, pair[1] in topic.statements
    positive = Text(pair[1], topic.claims)
    negative = _negative(rng, topic, stated, hard, held)
    if others and stated:
        positive = _passage(rng, topic, positive, others, held)
        negative = _passage(rng, topic, negative, others, held)
    anchor = Text(pair[0], topic.claims)
    if held:
        return Example(topic.sort, hard, anchor, positive, negative)
    return Example(
        topic.sort, hard, *(typed(rng, one, topic.subject) for one in (anchor, positive, negative))
    )


# --- the held-out sets ----------------------------------------------------------------------------

#: How many held-out triples there are of every sort.
COUNTS: Mapping[str, int] = {
    "family": 70, "fact": 20, "chat": 25, "people": 100, "things": 45, "cities": 20, "sums": 20,
}  # fmt: skip


def held_out_triples(task: Task, seed: int = 2026) -> list[Triple]:
    """Make a held-out set: the same one every time, no anchor twice with the same positive."""
    rng = Random(seed)
    triples: dict[tuple[str, str], Triple] = {}
    for sort, count in COUNTS.items():
        until = len(triples) + count
        while len(triples) < until:
            others = rng.choices(list(PASSAGES), list(PASSAGES.values()))[0]
            drawn = example(rng, task, held=True, sort=sort, others=others).triple
            triples.setdefault((drawn.anchor, drawn.positive), drawn)
    return list(triples.values())


def write_triples(triples: Iterable[Triple], path: Path) -> None:
    """Write ``triples`` as JSON lines."""
    text = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in triples)
    path.write_text(text, encoding="utf-8")


def read_triples(path: Path) -> list[Triple]:
    """Read what :func:`write_triples` wrote."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Triple(**json.loads(line)) for line in lines if line]
