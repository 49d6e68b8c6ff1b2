"""Make up what is spoken: questions and answers of the demo chat model, as it would hear them.

The tables are those of :mod:`scripts.demo_chat`; nothing is downloaded.  Every text here is
written as Whisper would write it: ``12 plus 30``, because Whisper's decoders suppress ``+``, and
one spelling for what sounds the same.  The unit is a :class:`Sentence`, which becomes one segment;
a :data:`Talk` is a row of them in one language, spoken by one voice.

A hash of an *open* sentence (one of very many of its kind) decides whether it is held out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from scripts.demo_chat import phrases as P
from scripts.demo_chat.data import number_word
from scripts.demo_chat.facts import (
    CAPITALS,
    COLOURS,
    DAYS,
    FACTS,
    FAMILIES,
    INTENTS,
    MONTHS,
    OPPOSITES,
    SOUNDS,
)

from .espeak import Voice
from .foreign import FOREIGN, ForeignTable

HELD_OUT_PATH = Path("tests/data/demo_whisper_heldout.jsonl")
HELD_OUT_PERCENT = 8

_SAME_SOUND = {
    "color": "colour", "favorite": "favourite", "ok": "okay", "alright": "all right",
    "summarize": "summarise",
}  # fmt: skip
_SYMBOLS = re.compile(r"[+*/=#<>\[\](){}:\"“”_@|-]")
_NAMES = tuple(name for name in P.REAL_NAMES if name.isascii())
_WORDS = (
    *P.NOUNS, *P.OTHER_COUNTRIES, *CAPITALS, *CAPITALS.values(), *COLOURS.values(), *DAYS,
    *MONTHS, *OPPOSITES, *SOUNDS, *_NAMES,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, its language (Whisper's code) and the same in English."""

    text: str
    language: str = "en"
    english: str = ""
    #: One of so many of its kind that some can be held out.
    open: bool = False

    @property
    def translation(self) -> str:
        """What the translation task should write."""
        return self.english or self.text


Talk = list[Sentence]
Skill = Callable[[Random], Talk]


def is_held_out(sentence: Sentence) -> bool:
    """Say whether ``sentence`` is kept for the test."""
    digest = hashlib.blake2b(sentence.text.lower().encode(), digest_size=4).digest()
    return sentence.open and int.from_bytes(digest, "big") % 100 < HELD_OUT_PERCENT


# --- one way to write what sounds the same -------------------------------------------------------


def _respell(match: re.Match[str]) -> str:
    word = match.group()
    other = _SAME_SOUND.get(word.lower(), word)
    return other[0].upper() + other[1:] if word[0].isupper() else other


def written(text: str) -> str:
    """Write ``text`` the one way in which it is transcribed."""
    text = re.sub(r"[A-Za-z]+", _respell, text.replace(": ", ", ").strip())
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".?!" else text + "."


def _split(text: str, open_: bool) -> Talk:
    return [Sentence(written(part), open=open_) for part in re.split(r"(?<=[.?!])\s+", text)]


def _speakable(templates: tuple[str, ...]) -> list[str]:
    """Keep the templates in which nothing but words and fields is written."""
    plain = re.compile(r"\{[abwvnx]\}|: @|: \{w\}|@")
    spoken = [t for t in templates if "{a}x" not in t and "{a} x" not in t and " x {" not in t]
    return [t for t in spoken if not _SYMBOLS.search(plain.sub("", t))]


def _led(prefix: str, text: str) -> str:
    """Put ``prefix`` before ``text``, which goes on in lower case where the sentence goes on."""
    new = not prefix or prefix.rstrip()[-1] in ".?!"
    keep = new or text.startswith(("I ", "I'")) or re.match("[A-Z]{2}", text)
    return prefix + (text if keep else text[0].lower() + text[1:])


def _asked(rng: Random, question: str, open_: bool, share: float = 0.25) -> Talk:
    """Put a lead-in before ``question`` now and then: with one, it is open."""
    if rng.random() >= share:
        return _split(question, open_)
    return _split(_led(rng.choice(P.ASK_PREFIXES), question).replace("@", P.DEFAULT_NAME), True)


# --- what is talked about ------------------------------------------------------------------------


def chat(rng: Random) -> Talk:
    """Small talk."""
    intent = rng.choice([i for i in INTENTS if i.name != "empty"])
    says = rng.choice([s for s in intent.says if s != "Thx"])
    prefix = rng.choice(P.CHAT_PREFIXES) if intent.greetable and rng.random() < 0.3 else ""
    suffix = rng.choice(P.CHAT_SUFFIXES) if rng.random() < 0.25 else ""
    body = says.rstrip("?.!")
    text = _led(prefix, body + suffix + says[len(body) :]).replace("@", P.DEFAULT_NAME)
    return _split(text, bool(prefix or suffix)) + _split(intent.reply, False)


_SIGNS = {"plus": P.ADD, "minus": P.SUBTRACT, "times": P.MULTIPLY, "divided by": P.DIVIDE}


def _operands(rng: Random, sign: str) -> tuple[int, int, int]:
    if sign in ("plus", "minus"):
        a, b = rng.randint(0, 100), rng.randint(0, 100)
        return a, b, a + b if sign == "plus" else a - b
    a, b = rng.randint(0, 12), rng.randint(1, 12)
    return (a, b, a * b) if sign == "times" else (a * b, b, a)


def arithmetic(rng: Random) -> Talk:
    """A sum, and its result in words: signs are suppressed by Whisper's decoders."""
    sign = rng.choice(("plus", "plus", "minus", "minus", "times", "divided by"))
    a, b, result = _operands(rng, sign)
    question = rng.choice(_speakable(_SIGNS[sign])).format(a=a, b=b)
    shown = str(result) if result >= 0 else f"minus {-result}"
    answer = Sentence(f"{a} {sign} {b} equals {shown}.", open=True)
    return [*_asked(rng, question, True, 0.1), answer]


def facts(rng: Random) -> Talk:
    """The facts that have a wording of their own."""
    fact = rng.choice(FACTS)
    return _asked(rng, rng.choice(fact.questions), False) + _split(fact.answer, False)


def families(rng: Random) -> Talk:
    """The tables of facts."""
    family = rng.choice(FAMILIES)
    x, y = rng.choice(list(family.pairs.items()))
    index = rng.randrange(len(family.phrasings))
    question = family.phrasings[index].format(x=x)
    answer = family.answer.format(x=x, y=y)
    return _asked(rng, question[0].upper() + question[1:], index > 0, 0.15) + _split(answer, False)


def names(rng: Random) -> Talk:
    """Who the user is, and who the model is."""
    user, own = rng.choice(_NAMES), rng.choice((P.DEFAULT_NAME, rng.choice(_NAMES)))
    exchanges = (
        (rng.choice(P.INTRODUCE), P.INTRODUCE_REPLY, user),
        (rng.choice(P.RECALL), P.RECALL_REPLY, user),
        (rng.choice(P.RECALL), P.NO_NAME_REPLY, user),
        (rng.choice(P.ASK_NAME), P.NAME_REPLY, own),
        (rng.choice(P.ASK_WHO), P.WHO_REPLY, own),
    )
    asked, reply, name = rng.choice(exchanges)
    open_ = name != P.DEFAULT_NAME
    return _split(asked.replace("@", name), open_) + _split(reply.replace("@", name), open_)


def counting(rng: Random) -> Talk:
    """Counting aloud: one segment for every ten, or a window would hold no segment's end."""
    first = rng.choice((1, 1, rng.randint(0, 99)))
    last = min(100, first + rng.randint(1, rng.choice((9, 12, 20, 40, 99))))
    templates = P.COUNT_TO if first == 1 else P.COUNT_RANGE
    question = rng.choice(_speakable(templates)).format(a=first, b=last)
    talk = _split(question, True)
    for low in range(first - (first - 1) % 10, last + 1, 10):
        words = [number_word(n) for n in range(max(low, first), min(low + 9, last) + 1)]
        text = ", ".join(words)
        text = text[0].upper() + text[1:] if low <= first else text
        talk.append(Sentence(text + ("." if low + 9 >= last else ",")))
    return talk


def _thing(rng: Random) -> str:
    return rng.choice(P.NOUNS if rng.random() < 0.8 else _WORDS)


def unknown(rng: Random) -> Talk:
    """Questions that the chat model refuses to answer."""
    template = rng.choice(_speakable(P.UNKNOWN_QUESTIONS))
    number = rng.choice((rng.randint(1900, 2030), rng.randint(1, 99), 100 * rng.randint(1, 20)))
    text = template.format(w=_thing(rng), v=_thing(rng), n=number)
    reply = _split(P.UNKNOWN_REPLY, False) if rng.random() < 0.3 else []
    return _asked(rng, text[0].upper() + text[1:], True, 0.15) + reply


def words(rng: Random) -> Talk:
    """Words in any order, so that what is heard counts for more than what is likely."""
    row = [rng.choice(_WORDS) for _ in range(rng.choice((1, 2, 3, 4, 5)))]
    if rng.random() < 0.3:
        row[rng.randrange(len(row))] = str(rng.randint(13, 130))
    said = " ".join(row)
    if rng.random() < 0.6:
        return _split(said[0].upper() + said[1:], True)
    reply = rng.choice((*_speakable(P.REPEAT), P.REPEAT_REPLY))
    return _split(reply.replace("@", said), True)


def _foreign(table: ForeignTable, language: str) -> Skill:
    def skill(rng: Random) -> Talk:
        talk: Talk = []
        for _ in range(rng.randint(1, 4)):
            text, english, open_ = table(rng)
            talk.append(Sentence(text, language, english, open_))
        return talk

    return skill


#: Every skill with how often it is drawn.
SKILLS: dict[str, tuple[Skill, float]] = {
    "chat": (chat, 10),
    "arithmetic": (arithmetic, 22),
    "facts": (facts, 10),
    "families": (families, 12),
    "names": (names, 8),
    "counting": (counting, 5),
    "unknown": (unknown, 18),
    "words": (words, 10),
    **{lang: (_foreign(table, lang), 4.0) for lang, table in FOREIGN.items()},
}


def draw(rng: Random) -> tuple[str, Talk]:
    """Draw a skill and a talk of it, from the training side or not."""
    names = list(SKILLS)
    name = rng.choices(names, [SKILLS[name][1] for name in names])[0]
    return name, SKILLS[name][0](rng)


def talks(seed: int) -> Iterator[Talk]:
    """Yield talks to train on without end; the same seed gives the same ones."""
    rng = Random(seed)
    while True:
        _, talk = draw(rng)
        if not any(is_held_out(sentence) for sentence in talk):
            yield talk


# --- voices --------------------------------------------------------------------------------------

#: Few voices: those that a server would choose most, so that a tiny model can know them well.
_VOICES = {
    "en": (("en-us", 10), ("en", 3), ("en-gb-x-rp", 1.5), ("en-us+f3", 1), ("en-us+m3", 1)),
    "de": (("de", 1),),
    "fr": (("fr", 1),),
}


def make_voice(rng: Random, language: str) -> Voice:
    """Draw a voice; espeak-ng's own speed and pitch are the most frequent."""
    voices = _VOICES[language]
    name = rng.choices([name for name, _ in voices], [weight for _, weight in voices])[0]
    rate = 175 if rng.random() < 0.5 else rng.randint(130, 220)
    pitch = 50 if rng.random() < 0.5 else rng.randint(35, 65)
    return Voice(name, rate, pitch)


# --- the held-out set ----------------------------------------------------------------------------

#: English sentences; English words in any order, which no context helps with; German; French.
HELD_OUT_COUNTS = {"sentence": 130, "words": 30, "de": 15, "fr": 15}


@dataclass(frozen=True, slots=True)
class Item:
    """One test: ``voice`` says ``text``; the model should write it, or its English."""

    kind: str
    text: str
    language: str
    english: str
    voice: Voice


def held_out_items(seed: int = 2026) -> list[Item]:
    """Make the held-out set: the same one every time."""
    rng = Random(seed)
    found: dict[str, dict[str, Item]] = {kind: {} for kind in HELD_OUT_COUNTS}
    while any(len(found[kind]) < count for kind, count in HELD_OUT_COUNTS.items()):
        skill, talk = draw(rng)
        kind = skill if skill in found else "sentence"
        for sentence in filter(is_held_out, talk):
            text, language = sentence.text, sentence.language
            item = Item(kind, text, language, sentence.translation, make_voice(rng, language))
            if len(found[kind]) < HELD_OUT_COUNTS[kind]:
                found[kind].setdefault(text.lower(), item)
    return [item for items in found.values() for item in items.values()]


def write_items(items: list[Item], path: Path) -> None:
    """Write ``items`` as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in items)
    path.write_text("".join(lines), encoding="utf-8")


def read_items(path: Path) -> list[Item]:
    """Read what :func:`write_items` wrote."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Item(**(row | {"voice": Voice(**row["voice"])})) for row in rows]
