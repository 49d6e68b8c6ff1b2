"""Generate the conversations that teach and test the demo chat model.

Everything is made up by seeded random numbers from the tables of :mod:`.facts` and
:mod:`.phrases`; nothing is downloaded.  The unit is a :class:`Turn`: what the user says, what the
model should say, and a ``key`` that names what is being learned.  A hash of the key decides
whether the turn belongs to the held-out set, so training and test can never overlap, whatever
the seeds.

To add a skill, write a function ``(rng, context) -> Turn`` and put it into :data:`SKILLS`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from . import phrases as P
from .facts import FACTS, FAMILIES, INTENTS, Family, Intent

Message = dict[str, str]

HELD_OUT_PATH = Path("tests/data/demo_chat_heldout.jsonl")
HELD_OUT_PERCENT = 10
#: Keys that start so are always trained: the plain phrasings that everybody tries first.
BASE = "base:"

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")

# The parts of made-up words; those listed twice are twice as likely.
_ONSETS = (
    "b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z",
    "br", "ch", "cl", "dr", "fl", "gr", "kr", "ph", "sh", "st", "th", "tr", "qu",
)  # fmt: skip
_VOWELS = (*"aeiou", *"aeiou", "ai", "ea", "ee", "ie", "oo", "ou", "y")
_COMMON = (
    "the", "of", "and", "to", "in", "is", "that", "it", "was", "for", "on", "are", "with", "as",
    "his", "they", "at", "be", "this", "from", "or", "had", "by",
)  # fmt: skip
_CODAS = ("", "", "", *"nrslmxtdk", "nd", "rt", "ck", "sh", "th")


@dataclass(frozen=True)
class Turn:
    """One exchange: a user's message and the right reply to it."""

    user: str
    reply: str
    key: str
    #: What an answer must contain to be right; the whole reply where empty.
    expect: str = ""
    #: The name under which the user introduces themself in this turn.
    introduces: str | None = None


@dataclass
class Context:
    """What a reply may depend on besides the user's last message."""

    assistant: str = P.DEFAULT_NAME
    user: str | None = None
    #: The model has just asked the user for their name.
    asked_name: bool = False
    #: Take new names from the held-out ones.
    held_names: bool = False


@dataclass
class Conversation:
    """A finished conversation, ready to be encoded."""

    messages: list[Message] = field(default_factory=list)


Skill = Callable[[Random, Context], Turn]


def is_held_out(key: str) -> bool:
    """Say whether what ``key`` names is kept for the test."""
    if key.startswith(BASE):
        return False
    digest = hashlib.blake2b(key.lower().encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % 100 < HELD_OUT_PERCENT


# --- words, numbers and names ---------------------------------------------------------------


def number_word(n: int) -> str:
    """Spell ``n``, from zero to one hundred."""
    if n == 100:
        return "one hundred"
    if n < 20:
        return _ONES[n]
    tens, ones = divmod(n, 10)
    return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")


def pseudo_word(rng: Random, low: int = 1, high: int = 3) -> str:
    """Make up a pronounceable word of ``low`` to ``high`` syllables."""
    word = "".join(
        rng.choice(_ONSETS)
        + rng.choice(_VOWELS)
        + (rng.choice(_CODAS) if rng.random() < 0.5 else "")
        for _ in range(rng.randint(low, high))
    )
    return rng.choice("aeiou") + word if rng.random() < 0.15 else word


def _any_name(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.12:
        return rng.choice(P.REAL_NAMES)
    name = pseudo_word(rng).capitalize()
    if kind < 0.17:
        return f"{name} {pseudo_word(rng, 1, 2).capitalize()}"
    if kind < 0.20:
        return f"{name}-{rng.randint(1, 99)}" if rng.random() < 0.5 else f"{name}Bot"
    if kind < 0.22:
        return "".join(rng.choice("ABCDEFGHIJKLMNOPRSTUVXZ") for _ in range(rng.randint(2, 4)))
    if kind < 0.25:
        return name.translate(str.maketrans(rng.choice("aeiou"), rng.choice("áéöüß")))
    return name


def make_name(rng: Random, held: bool = False) -> str:
    """Make a name; the held-out names and the trained ones never meet."""
    while True:
        name = _any_name(rng)
        if is_held_out(f"name|{name}") == held:
            return name


# --- the surface of a message -----------------------------------------------------------------


def _lower_first(text: str) -> str:
    keep = text[:2] in ("I ", "I'") or text[:2].isupper() or not text
    return text if keep else text[0].lower() + text[1:]


def roughen(rng: Random, text: str) -> str:
    """Vary case and final punctuation the way people do when they type."""
    roll = rng.random()
    if roll < 0.14:
        text = text.lower()
    elif roll < 0.18:
        text = text.upper()
    roll = rng.random()
    if roll < 0.16:
        return text.rstrip(".?!")
    if roll < 0.20:
        return text.rstrip(".?!") + rng.choice(("!", "??", "!!", " ?", "...", ".", " "))
    return text


def _prefixed(rng: Random, text: str, context: Context, share: float = 0.25) -> tuple[str, str]:
    """Put a lead-in before a question now and then; return the text and the lead-in."""
    if rng.random() >= share:
        return text, ""
    prefix = rng.choice(P.ASK_PREFIXES)
    body = _lower_first(text) if rng.random() < 0.5 else text
    return prefix.replace("@", context.assistant) + body, prefix


def _named(rng: Random, template: str, name: str) -> str:
    """Roughen ``template`` and put ``name`` in afterwards, so that the name can be copied."""
    return roughen(rng, template).replace("@", name)


# --- skills -------------------------------------------------------------------------------------


def chat(rng: Random, context: Context) -> Turn:
    """Small talk."""
    intent: Intent = rng.choice(INTENTS) if rng.random() < 0.85 else INTENTS[0]
    index = rng.randrange(len(intent.says))
    core = intent.says[index]
    prefix = rng.choice(P.CHAT_PREFIXES) if intent.greetable and rng.random() < 0.3 else ""
    suffix = rng.choice(P.CHAT_SUFFIXES) if intent.name != "empty" and rng.random() < 0.25 else ""
    text = prefix + _lower_first(core) if prefix and rng.random() < 0.6 else prefix + core
    if suffix:
        body = text.rstrip("?.!")
        text = body + suffix + text[len(body) :]
    elif text and text[-1].isalpha():
        text += rng.choice(("", ".", "!"))
    plain = not prefix and not suffix
    key = f"chat|{intent.name}|{prefix}|{core}|{suffix}"
    if plain and (index < 2 or not intent.greetable):
        key = BASE + key
    return Turn(_named(rng, text, context.assistant), intent.reply, key)


def _operands(rng: Random, kind: str) -> tuple[int, int, int]:
    """Draw ``a``, ``b`` and the result of ``a kind b``."""
    if kind == "+":
        top = rng.choice((12, 99, 99, 99, 100))
        a, b = rng.randint(0, top), rng.randint(0, top)
        return a, b, a + b
    if kind == "-":
        top = rng.choice((20, 99, 99, 99, 100))
        a, b = rng.randint(0, top), rng.randint(0, top)
        if a < b and rng.random() < 0.75:
            a, b = b, a
        return a, b, a - b
    a, b = rng.randint(0, 12), rng.randint(0, 12)
    if kind == "*":
        return a, b, a * b
    return a * max(b, 1), max(b, 1), a


def arithmetic(rng: Random, context: Context) -> Turn:
    """Sums, differences, products and exact quotients of small numbers."""
    kind = rng.choice("+++++------***/")
    templates = {"+": P.ADD, "-": P.SUBTRACT, "*": P.MULTIPLY, "/": P.DIVIDE}[kind]
    template = rng.choice(templates)
    a, b, result = _operands(rng, kind)
    symbols = any(s in template for s in ("+", "-", "*", "/", "x{", "x {"))
    spell = not symbols and max(a, b) <= 100 and rng.random() < 0.15
    shown = (number_word(a), number_word(b)) if spell else (str(a), str(b))
    text, _ = _prefixed(rng, template.format(a=shown[0], b=shown[1]), context, 0.12)
    key = f"sum|{kind}|{a}|{b}"
    if kind == "+":  # 3 + 4 gives 4 + 3 away
        key = f"sum|+|{min(a, b)}|{max(a, b)}"
    elif kind in "*/":  # too few of them to hold any out whole
        key += f"|{template}"
    return Turn(
        roughen(rng, text), f"{a} {kind} {b} = {result}.", key, expect=f"{kind} {b} = {result}."
    )


def facts(rng: Random, context: Context) -> Turn:
    """The tables of facts."""
    if rng.random() < 0.5:
        fact = rng.choice(FACTS)
        index = rng.randrange(len(fact.questions))
        text, prefix = _prefixed(rng, fact.questions[index], context)
        key = f"fact|{fact.key}|{index}|{prefix}"
        if not prefix and index < 2:
            key = BASE + key
        return Turn(roughen(rng, text), fact.answer, key, expect=fact.key)
    family: Family = rng.choice(FAMILIES)
    x, y = rng.choice(list(family.pairs.items()))
    index = rng.randrange(len(family.phrasings))
    question = family.phrasings[index].format(x=x)
    text, _ = _prefixed(rng, question[0].upper() + question[1:], context, 0.12)
    answer = family.answer.format(x=x, y=y)
    key = f"{BASE if index == 0 else ''}family|{family.name}|{x}|{index}"
    return Turn(roughen(rng, text), answer, key, expect=y)


def name(rng: Random, context: Context) -> Turn:
    """The model's own name, from the system prompt."""
    ask_who = rng.random() < 0.4
    question = rng.choice(P.ASK_WHO if ask_who else P.ASK_NAME)
    text, prefix = _prefixed(rng, question, context, 0.15)
    reply = (P.WHO_REPLY if ask_who else P.NAME_REPLY).replace("@", context.assistant)
    key = f"name|{context.assistant}"
    if context.assistant == P.DEFAULT_NAME:
        key = f"{'' if prefix else BASE}default|{prefix}|{question}"
    return Turn(roughen(rng, text), reply, key, expect=context.assistant)


def _count_range(rng: Random) -> tuple[int, int]:
    """Draw a range to count: from one, mostly, and mostly short, because long ones cost time."""
    roll = rng.random()
    if roll < 0.05:
        return 1, 100
    if roll < 0.50:
        return 1, rng.randint(1, rng.choice((12, 20, 30, 60, 100)))
    first = rng.choice((1, rng.randint(0, 20), rng.randint(0, 99), rng.randint(0, 99)))
    return first, min(100, first + rng.randint(1, rng.choice((5, 12, 12, 25))))


def counting(rng: Random, context: Context) -> Turn:
    """Counting aloud, in words."""
    first, last = _count_range(rng)
    from_one = first == 1 and rng.random() < 0.7
    template = rng.choice(P.COUNT_TO if from_one else P.COUNT_RANGE)
    digits = rng.random() < 0.5
    a, b = (str(first), str(last)) if digits else (number_word(first), number_word(last))
    if last == 100 and not digits and rng.random() < 0.2:
        b = rng.choice(("a hundred", "hundred"))
    text, prefix = _prefixed(rng, template.format(a=a, b=b), context, 0.1)
    key = f"count|{first}|{last}"
    if first == 1 and (last % 10 == 0 or last == 5):
        common = template in P.COUNT_TO[:5] or template in P.COUNT_RANGE[:3]
        key = f"{BASE if common and not prefix else ''}{key}|{template}|{prefix}"
    words = ", ".join(number_word(n) for n in range(first, last + 1))
    return Turn(roughen(rng, text), f"{words}.", key)


def introduce(rng: Random, context: Context) -> Turn:
    """The user says their name."""
    own = make_name(rng, context.held_names)
    if rng.random() < 0.12:
        own = own.lower()
    bare = context.asked_name and rng.random() < 0.4
    text = _named(rng, rng.choice(("@", "@.")) if bare else rng.choice(P.INTRODUCE), own)
    reply = P.INTRODUCE_REPLY.replace("@", own)
    return Turn(text, reply, f"name|{own}", expect=own, introduces=own)


def recall(rng: Random, context: Context) -> Turn:
    """The user asks for their own name."""
    text, prefix = _prefixed(rng, rng.choice(P.RECALL), context, 0.1)
    if context.user is None:
        key = f"{'' if prefix else BASE}no-name|{text}"
        return Turn(roughen(rng, text), P.NO_NAME_REPLY, key)
    reply = P.RECALL_REPLY.replace("@", context.user)
    return Turn(roughen(rng, text), reply, f"name|{context.user}", expect=context.user)


def repeat(rng: Random, context: Context) -> Turn:
    """Say again what the user said: a small skill, but nothing teaches copying faster."""
    words = [_thing(rng) for _ in range(rng.choice((1, 1, 2, 3, 4, 6)))]
    if rng.random() < 0.4:
        words[-1] = make_name(rng, context.held_names)
    said = " ".join(words)
    text = _named(rng, rng.choice(P.REPEAT), said)
    return Turn(text, P.REPEAT_REPLY.replace("@", said), f"repeat|{said}")


# --- everything else: polite refusals -------------------------------------------------------------


def _thing(rng: Random) -> str:
    roll = rng.random()
    if roll < 0.6:
        return rng.choice(P.NOUNS)
    word = pseudo_word(rng, 1, 4)
    return word.capitalize() if roll < 0.8 else word


def _year(rng: Random) -> int:
    return rng.choice((rng.randint(1000, 2100), rng.randint(1900, 2030), rng.randint(1, 99)))


def _gibberish(rng: Random, words: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    script = rng.choice((letters, letters, letters + "0123456789;,.-#", None))
    if script is None:  # some block of Unicode that the tokenizer has only bytes for
        start = rng.choice((0x3B1, 0x430, 0x5D0, 0x627, 0x905, 0x3042, 0x4E00, 0xAC00, 0x1F600))
        script = "".join(chr(start + i) for i in range(24))
    return " ".join(
        "".join(rng.choice(script) for _ in range(rng.randint(1, 10))) for _ in range(words)
    )


def _prose(rng: Random, words: int) -> str:
    """Make up text that looks like pasted prose."""
    out: list[str] = []
    while len(out) < words:
        size = rng.randint(4, 14)
        part = [rng.choice(_COMMON) if rng.random() < 0.5 else _thing(rng) for _ in range(size)]
        out += [part[0].capitalize(), *part[1:-1], part[-1] + rng.choice((".", ".", ",", "?", "!"))]
    return " ".join(out)


def _long_text(rng: Random, context: Context) -> Turn:
    words = int(12 * 2 ** (rng.random() ** 3 * 6))
    task = rng.choice(P.LONG_TASKS)
    body = _prose(rng, words) if rng.random() < 0.8 else _gibberish(rng, words // 2)
    if rng.random() < 0.1:  # real questions inside pasted text are not asked
        body = f"{body} {draw(facts, rng, context, held=False).user} {_prose(rng, 8)}"
    text = f"{task}{rng.choice((' ', chr(10), chr(10) * 2)) if task else ''}{body}"
    return Turn(text, P.UNKNOWN_REPLY, f"unknown|{text}", expect="I do not know")


def _unknown_in_family(rng: Random) -> str:
    family = rng.choice([f for f in FAMILIES if f.open_ended])
    while True:
        thing = _thing(rng)
        if family.name == "capital":
            roll = rng.random()
            thing = rng.choice(P.OTHER_COUNTRIES) if roll < 0.4 else thing.capitalize()
        elif family.name == "colour":
            thing = f"{rng.choice(('a', 'the'))} {thing}"
        if thing not in family.pairs:
            return rng.choice(family.phrasings).format(x=thing)


def _hard_sum(rng: Random) -> Turn:
    kind = rng.choice("+-*/3")
    big = rng.choice((999, 9999, 10**6, 10**9))
    a, b = rng.randint(201, big), rng.randint(1, rng.choice((99, big)))
    if rng.random() < 0.5:
        a, b = b, a
    if kind == "*" and rng.random() < 0.5:
        a, b = rng.randint(13, 99), rng.randint(13, 99)
    if kind == "/" and rng.random() < 0.5:
        b = rng.choice((0, rng.randint(13, 99)))
        a = rng.randint(1, 99) * b + (rng.randint(1, 12) if b else rng.randint(1, 99))
    if kind == "3":
        sign, other = rng.choice("+-*"), rng.choice("+-*")
        text = f"{rng.randint(0, 99)} {sign} {rng.randint(0, 99)} {other} {rng.randint(0, 99)}"
        text = rng.choice(("What is {}?", "{}", "Calculate {}.", "{} =")).format(text)
    else:
        templates = {"+": P.ADD, "-": P.SUBTRACT, "*": P.MULTIPLY, "/": P.DIVIDE}[kind]
        text = rng.choice(templates).format(a=a, b=b)
    return Turn(roughen(rng, text), P.HARD_SUM_REPLY, f"hard|{text}")


def _hard_count(rng: Random) -> Turn:
    far = rng.randint(101, rng.choice((200, 1000, 10**6)))
    if rng.random() < 0.6:
        text = rng.choice(P.COUNT_TO).format(b=far)
    elif rng.random() < 0.5:
        text = rng.choice(P.COUNT_RANGE).format(a=rng.randint(0, 100), b=far)
    else:
        low = rng.randint(0, 50)
        text = rng.choice(P.COUNT_RANGE).format(a=low + rng.randint(1, 50), b=low)
    return Turn(roughen(rng, text), P.HARD_COUNT_REPLY, f"hard|{text}")


def unknown(rng: Random, context: Context) -> Turn:
    """Whatever the model does not know: it says so."""
    roll = rng.random()
    if roll < 0.08:
        return _hard_sum(rng)
    if roll < 0.12:
        return _hard_count(rng)
    if roll < 0.19:
        return _long_text(rng, context)
    if roll < 0.32:
        text = roughen(rng, _unknown_in_family(rng))
    elif roll < 0.72:
        template = rng.choice(P.UNKNOWN_QUESTIONS)
        text = template.format(w=_thing(rng), v=_thing(rng), n=_year(rng))
        text = roughen(rng, _prefixed(rng, text, context, 0.15)[0])
    elif roll < 0.80:
        text = rng.choice(P.FOREIGN)
    elif roll < 0.85:
        text = rng.choice(P.SNIPPETS).format(w=_thing(rng), v=_thing(rng))
    elif roll < 0.92:
        text = _prose(rng, rng.randint(3, 20))
    else:
        text = _gibberish(rng, rng.randint(1, 8))
    key = f"unknown|{text.rstrip(' .?!')}"
    return Turn(text, P.UNKNOWN_REPLY, key, expect="I do not know")


#: Every skill with how often training draws it.
SKILLS: dict[str, tuple[Skill, float]] = {
    "chat": (chat, 11),
    "arithmetic": (arithmetic, 36),
    "facts": (facts, 13),
    "name": (name, 8),
    "counting": (counting, 7),
    "introduce": (introduce, 5),
    "recall": (recall, 5),
    "repeat": (repeat, 6),
    "unknown": (unknown, 10),
}


# --- conversations --------------------------------------------------------------------------------


def draw(skill: Skill, rng: Random, context: Context, held: bool) -> Turn:
    """Draw a turn of ``skill`` from the held-out side or from the training side."""
    while True:
        turn = skill(rng, context)
        if is_held_out(turn.key) == held:
            return turn


def system_prompt(rng: Random, own_name: str | None) -> str:
    """Write a system prompt that gives the model ``own_name``, or no name."""
    parts = [rng.choice(P.SYSTEM_PLAIN) for _ in range(rng.choice((0, 0, 1, 1, 2, 3)))]
    if rng.random() < 0.03:
        parts.append(_prose(rng, rng.randint(10, 120)))
    if own_name is not None:
        spot = 0 if rng.random() < 0.5 else rng.randint(0, len(parts))
        parts.insert(spot, rng.choice(P.SYSTEM_NAMED).replace("@", own_name))
    elif not parts:
        parts = [rng.choice(P.SYSTEM_PLAIN[:2])]
    separator = "\n" if rng.random() < 0.15 else " "
    return separator.join(parts)


def _add_system(rng: Random, messages: list[Message], context: Context, own: str | None) -> None:
    """Append a system message; one that names the model changes the context."""
    messages.append({"role": "system", "content": system_prompt(rng, own)})
    if own is not None:
        context.assistant = own


def _add_turn(messages: list[Message], context: Context, turn: Turn) -> None:
    messages.append({"role": "user", "content": turn.user})
    messages.append({"role": "assistant", "content": turn.reply})
    if turn.introduces is not None:
        context.user = turn.introduces
    context.asked_name = turn.reply == P.NO_NAME_REPLY


def _with_introduction(rng: Random, turn: Turn, context: Context) -> Turn:
    """Let the user say their name just before the question; the question is what counts."""
    own = make_name(rng, context.held_names)
    context.user = own
    intro = rng.choice(P.INTRODUCE[:13]).replace("@", own)
    return Turn(f"{intro} {turn.user}", turn.reply, turn.key, turn.expect)


def _pick_skill(rng: Random, context: Context) -> Skill:
    """Draw a skill by weight; names are asked for more often where there is one to remember."""
    weights = {key: weight for key, (_, weight) in SKILLS.items()}
    if context.assistant != P.DEFAULT_NAME:
        weights["name"] *= 5
    if context.user is not None:
        weights["recall"] *= 5
    chosen = rng.choices(list(weights), list(weights.values()))[0]
    return SKILLS[chosen][0]


def make_conversation(rng: Random) -> Conversation:
    """Make one training conversation."""
    talk, context = Conversation(), Context()
    if rng.random() < 0.45:
        own = make_name(rng) if rng.random() < 0.8 else None
        _add_system(rng, talk.messages, context, own)
    if rng.random() < 0.02:  # a client that lets the model speak first
        talk.messages.append({"role": "assistant", "content": P.GREETING_REPLY})
    for index in range(rng.choice((1, 1, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6))):
        if rng.random() < (0.04 if index else 0.01):
            _add_system(rng, talk.messages, context, make_name(rng) if rng.random() < 0.7 else None)
        skill = _pick_skill(rng, context)
        turn = draw(skill, rng, context, held=False)
        if rng.random() < 0.02 and skill not in (introduce, recall, unknown, chat):
            turn = _with_introduction(rng, turn, context)
        _add_turn(talk.messages, context, turn)
    return talk


def conversations(seed: int) -> Iterator[Conversation]:
    """Yield training conversations without end; the same seed gives the same ones."""
    rng = Random(seed)
    while True:
        yield make_conversation(rng)


# --- the held-out set -----------------------------------------------------------------------------

#: How many items of every category the held-out set has.
HELD_OUT_COUNTS = {
    "chat": 28,
    "arithmetic": 44,
    "facts": 36,
    "name": 32,
    "counting": 24,
    "memory": 18,
    "unknown": 18,
}


@dataclass(frozen=True)
class Item:
    """One test: the model's answer to ``messages`` must contain, or be, ``expect``."""

    category: str
    messages: tuple[Message, ...]
    expect: str
    match: str

    def passes(self, answer: str) -> bool:
        """Judge ``answer``."""
        answer = answer.strip()
        return answer == self.expect if self.match == "equals" else self.expect in answer


def _item(category: str, messages: list[Message], turn: Turn) -> Item:
    asked = (*messages, {"role": "user", "content": turn.user})
    return Item(category, asked, turn.expect or turn.reply, "contains" if turn.expect else "equals")


def _held_out_item(rng: Random, category: str) -> Item:
    """Make one held-out item; what comes before the held-out turn is ordinary."""
    messages: list[Message] = []
    context = Context(held_names=category == "memory")
    if category == "name" and rng.random() < 0.85:
        _add_system(rng, messages, context, make_name(rng, held=True))
    elif rng.random() < 0.3:
        _add_system(rng, messages, context, make_name(rng) if rng.random() < 0.5 else None)
    if category == "memory":
        _add_turn(messages, context, draw(introduce, rng, context, held=True))
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        earlier = rng.choice((chat, facts, arithmetic))
        _add_turn(messages, context, draw(earlier, rng, context, held=False))
    skill = recall if category == "memory" else SKILLS[category][0]
    return _item(category, messages, draw(skill, rng, context, held=True))


def held_out_items(seed: int = 2026) -> list[Item]:
    """Make the held-out set: the same one every time."""
    rng = Random(seed)
    items: list[Item] = []
    for category, count in HELD_OUT_COUNTS.items():
        seen: set[str] = set()
        while len(seen) < count:
            item = _held_out_item(rng, category)
            mark = json.dumps(item.messages if category == "name" else item.messages[-1])
            if category == "memory":
                mark = json.dumps(item.messages)
            if mark not in seen and len(item.messages[-1]["content"]) < 400:
                seen.add(mark)
                items.append(item)
    return items


def write_items(items: list[Item], path: Path) -> None:
    """Write ``items`` as JSON lines."""
    rows = (
        {"category": i.category, "messages": list(i.messages), "expect": i.expect, "match": i.match}
        for i in items
    )
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def read_items(path: Path) -> list[Item]:
    """Read what :func:`write_items` wrote."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return [Item(r["category"], tuple(r["messages"]), r["expect"], r["match"]) for r in rows]
