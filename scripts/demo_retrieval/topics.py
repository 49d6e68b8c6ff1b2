"""Topics: what can be asked and said about one piece of knowledge, drawn without end.

Two sentences are related where they are of one topic, and unrelated where their topics share no
claim.  A hash of a sentence decides whether it is held out, so training and test never share one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from scripts.demo_chat import facts as F
from scripts.demo_chat import phrases as P
from scripts.demo_chat.data import pseudo_word

from . import wordings as W
from .frames import CITIES, OF_CITIES, OF_PEOPLE, OF_THINGS, PEOPLE, THINGS, Frame

HELD_OUT_PERCENT = 20

#: How often training draws a topic of each sort.
SHARES = {"fixed": 42, "people": 28, "things": 14, "cities": 8, "sums": 8}
#: How many topics are looked at to find one that reads like another.
RIVALS = 24


@dataclass(frozen=True)
class Topic:
    """``questions`` that ``statements`` answer; small talk may have no statements.

    ``sort`` names the category and ``frame`` and ``subject`` what it speaks of.  A claim is a
    question that has one right answer in the world: topics that share one are not unrelated.
    """

    sort: str
    frame: str
    subject: str
    questions: tuple[str, ...]
    statements: tuple[str, ...]
    claims: frozenset[str]

    @property
    def sentences(self) -> tuple[str, ...]:
        return self.questions + self.statements

    def unrelated(self, other: Topic) -> bool:
        return self.claims.isdisjoint(other.claims)


# --- sentences --------------------------------------------------------------------------------


def write(template: str, a: str, b: str) -> str:
    """Fill in a template, with the right article and a capital where it is a sentence."""
    text = template.replace("{a}", a).replace("{b}", b)
    text = re.sub(r"\b([Aa]) (?=[aeiou](?!ni))", r"\1n ", text)
    return text[0].upper() + text[1:] if text[-1] in ".?!" else text


def words_of(sentence: str) -> list[str]:
    """The words and signs of a sentence: what is left when it is typed carelessly."""
    return re.findall(r"\w+|[-+*/]", sentence.lower())


def is_held_out(sentence: str) -> bool:
    """Say whether a sentence, however it is typed, is kept for the test."""
    words = " ".join(words_of(sentence))
    if words in PLAIN:
        return False
    digest = hashlib.blake2b(words.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % 100 < HELD_OUT_PERCENT


def of_side(sentences: Sequence[str], held: bool) -> list[str]:
    """Those of ``sentences`` that are held out, or those that are not."""
    return [sentence for sentence in sentences if is_held_out(sentence) == held]


# --- what is fixed: facts and small talk ----------------------------------------------------------


def _claims(frame: Frame, a: str, b: str) -> frozenset[str]:
    """What the frame says of ``a``, and of ``b`` where that is asked for too."""
    if frame.name == "opposite":
        return frozenset({"opposite|" + "|".join(sorted((a, b)))})
    if frame.name == "day-before":  # the day before Tuesday is what comes before the day after
        return frozenset({f"day-after|{b}"})
    own = f"{frame.name}|{a}"
    return frozenset({W.SAME.get(own, own), *([f"{frame.name}||{b}"] if frame.inverse else [])})


def _frame_topics(
    sort: str, frame: Frame, a: str, b: str, asked: tuple[str, ...] = ()
) -> Iterator[Topic]:
    """The topic that asks for ``b``, and the one that asks for ``a`` where the frame has it."""
    said = tuple(write(template, a, b) for template in frame.statements)
    for templates in (asked + frame.questions, frame.inverse):
        if templates:
            questions = tuple(write(template, a, b) for template in templates)
            yield Topic(sort, frame.name, a, questions, said, _claims(frame, a, b))


def _families() -> Iterator[Topic]:
    for family in F.FAMILIES:
        asked = tuple(phrasing.replace("{x}", "{a}") for phrasing in family.phrasings)
        for a, b in family.pairs.items():
            yield from _frame_topics("family", W.FAMILIES[family.name], a, b, asked)


def _facts() -> Iterator[Topic]:
    for fact in F.FACTS:
        said = (fact.answer, *W.STATEMENTS[fact.key])
        claims = frozenset({W.SAME.get(fact.key, fact.key)})
        yield Topic("fact", fact.key, fact.key, fact.questions, said, claims)


def _talk() -> Iterator[Topic]:
    for intent in F.INTENTS:
        said = (intent.reply, *W.ASKED[intent.name]) if intent.name in W.ASKED else ()
        if said or intent.name in W.SMALL_TALK:
            yield Topic("chat", intent.name, intent.name, intent.says, said, _talk_claims(intent))
    yield Topic("chat", "name", "name", P.ASK_NAME, W.NAME_STATEMENTS, frozenset({"who"}))
    yield Topic("chat", "who", "who", P.ASK_WHO, W.WHO_STATEMENTS, frozenset({"who"}))
    mine = tuple(text for text in P.RECALL if "name" in text)
    yield Topic("chat", "mine", "mine", mine, W.OWN_NAME_STATEMENTS, frozenset({"mine"}))


def _talk_claims(intent: F.Intent) -> frozenset[str]:
    greets = intent.name in ("greeting", "morning", "evening", "meet", "how-are-you")
    names = intent.name == "what-are-you"
    return frozenset({"greeting" if greets else "who" if names else intent.name})


FIXED: tuple[Topic, ...] = (*_families(), *_facts(), *_talk())
#: The plain wordings that everybody tries first; they are always trained.
PLAIN = frozenset(
    " ".join(words_of(sentence))
    for topic in FIXED
    for sentence in (*topic.questions[:1], *topic.statements[:1])
)


# --- what is made up ------------------------------------------------------------------------------


def _person(rng: Random) -> str:
    return rng.choice(PEOPLE) if rng.random() < 0.6 else pseudo_word(rng).capitalize()


def _thing(rng: Random) -> str:
    return rng.choice(THINGS) if rng.random() < 0.8 else pseudo_word(rng)


def _city(rng: Random) -> str:
    return rng.choice(CITIES) if rng.random() < 0.8 else pseudo_word(rng).capitalize()


_MADE_UP = {
    "people": (OF_PEOPLE, _person),
    "things": (OF_THINGS, _thing),
    "cities": (OF_CITIES, _city),
}


def _made_up(rng: Random, sort: str, subject: str | None = None, name: str | None = None) -> Topic:
    """Draw a topic of ``sort``, of a given subject or a given frame where there is one."""
    frames, draw_subject = _MADE_UP[sort]
    frame, values = rng.choice([row for row in frames if name in (None, row[0].name)])
    topics = list(_frame_topics(sort, frame, subject or draw_subject(rng), rng.choice(values)))
    return topics[-1] if rng.random() < 0.25 else topics[0]


_SUMS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "+": (P.ADD, ("{a} + {b} = {c}.", "{a} plus {b} is {c}.", "The sum of {a} and {b} is {c}.",
                  "If you add {a} and {b} you get {c}.", "{c} is {a} plus {b}.")),
    "-": (P.SUBTRACT, ("{a} - {b} = {c}.", "{a} minus {b} is {c}.", "{a} less {b} is {c}.",
                       "If you take {b} away from {a} you get {c}.", "{c} is {a} minus {b}.")),
    "*": (P.MULTIPLY, ("{a} * {b} = {c}.", "{a} times {b} is {c}.", "{c} is {a} times {b}.",
                       "The product of {a} and {b} is {c}.")),
}  # fmt: skip


def _sum(rng: Random, kind: str, a: int, b: int) -> Topic:
    asked, said = _SUMS[kind]
    result = {"+": a + b, "-": a - b, "*": a * b}[kind]
    questions = tuple(text.format(a=a, b=b) for text in asked)
    statements = tuple(text.format(a=a, b=b, c=result) for text in said)
    pair = (a, b) if kind == "-" else (min(a, b), max(a, b))
    claim = frozenset({f"{kind}|{pair[0]}|{pair[1]}"})
    return Topic("sums", kind, f"{a} {b}", questions, statements, claim)


def _any_sum(rng: Random) -> Topic:
    kind = rng.choice("++--*")
    top = 12 if kind == "*" else 99
    a, b = rng.randint(0, top), rng.randint(0, top)
    return _sum(rng, kind, max(a, b), min(a, b)) if kind == "-" else _sum(rng, kind, a, b)


def _near_sum(rng: Random, topic: Topic) -> Topic:
    a, b = map(int, topic.subject.split())
    roll = rng.random()
    if roll < 0.4:
        return _sum(rng, rng.choice("+-*"), a, b)
    return _sum(rng, topic.frame, a, rng.randint(0, 99)) if roll < 0.7 else _any_sum(rng)


def draw(rng: Random, sort: str | None = None) -> Topic:
    """Draw a topic, of ``sort`` where one is given (``family``, ``fact`` and ``chat`` too)."""
    sort = sort or rng.choices(list(SHARES), list(SHARES.values()))[0]
    if sort in _MADE_UP:
        return _made_up(rng, sort)
    if sort == "sums":
        return _any_sum(rng)
    return rng.choice([topic for topic in FIXED if sort in ("fixed", topic.sort)])


# --- what reads alike and is unrelated ------------------------------------------------------------


def _alike(topic: Topic, other: Topic) -> float:
    """The share of words that two topics have in common; none counts where they are related."""
    ours = set(words_of(" ".join(topic.sentences)))
    theirs = set(words_of(" ".join(other.sentences)))
    return topic.unrelated(other) * len(ours & theirs) / len(ours | theirs)


def _candidate(rng: Random, topic: Topic) -> Topic:
    if topic.sort in _MADE_UP:
        if rng.random() < 0.5:
            return _made_up(rng, topic.sort, subject=topic.subject)
        return _made_up(rng, topic.sort, name=topic.frame)
    if topic.sort == "sums":
        return _near_sum(rng, topic)
    return max(rng.sample(FIXED, RIVALS), key=lambda other: _alike(topic, other))


def rival(rng: Random, topic: Topic) -> Topic:
    """Draw an unrelated topic that reads like ``topic``: of the same subject or frame."""
    while True:
        found = _candidate(rng, topic)
        if topic.unrelated(found):
            return found


def stranger(rng: Random, topic: Topic) -> Topic:
    """Draw any topic that is unrelated to ``topic``."""
    while True:
        found = draw(rng)
        if topic.unrelated(found):
            return found
