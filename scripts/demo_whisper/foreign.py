"""A little German and French with its English, so that translation has something to translate."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from scripts.demo_chat import phrases as P

#: Draws a sentence, its English, and whether it is one of very many of its kind.
ForeignTable = Callable[[Random], tuple[str, str, bool]]

Pairs = tuple[tuple[str, str], ...]

_NAMES = tuple(name for name in P.REAL_NAMES if name.isascii() and " " not in name)

_GERMAN: Pairs = (
    ("Guten Tag, wie geht es Ihnen?", "Good day, how are you?"),
    ("Wie heißt du?", "What is your name?"),
    ("Wo ist der Bahnhof?", "Where is the station?"),
    ("Was ist das?", "What is that?"),
    ("Ich möchte ein Bier.", "I would like a beer."),
    ("Können Sie mir helfen?", "Can you help me?"),
    ("Das Wetter ist schön.", "The weather is nice."),
    ("Wie spät ist es?", "What time is it?"),
    ("Guten Morgen!", "Good morning!"),
    ("Guten Abend!", "Good evening!"),
    ("Gute Nacht!", "Good night!"),
    ("Auf Wiedersehen!", "Goodbye!"),
    ("Vielen Dank für die Hilfe.", "Thank you very much for the help."),
    ("Ich spreche kein Englisch.", "I do not speak English."),
    ("Ich verstehe das nicht.", "I do not understand that."),
    ("Der Himmel ist blau.", "The sky is blue."),
    ("Heute ist ein guter Tag.", "Today is a good day."),
    ("Ich bin müde und gehe nach Hause.", "I am tired and I am going home."),
    ("Erzähl mir eine Geschichte.", "Tell me a story."),
    ("Eine Woche hat 7 Tage.", "A week has 7 days."),
)

_FRENCH: Pairs = (
    ("Bonjour, comment ça va ?", "Hello, how are you?"),
    ("Quelle heure est-il ?", "What time is it?"),
    ("Je ne parle pas anglais.", "I do not speak English."),
    ("Où est la gare ?", "Where is the station?"),
    ("Comment tu t'appelles ?", "What is your name?"),
    ("Qu'est-ce que c'est ?", "What is that?"),
    ("Merci beaucoup.", "Thank you very much."),
    ("Bonsoir, mes amis.", "Good evening, my friends."),
    ("Bonne nuit !", "Good night!"),
    ("Au revoir, à demain.", "Goodbye, see you tomorrow."),
    ("Je voudrais un café.", "I would like a coffee."),
    ("Pouvez-vous m'aider ?", "Can you help me?"),
    ("Il fait beau aujourd'hui.", "The weather is nice today."),
    ("Je ne comprends pas.", "I do not understand."),
    ("Le ciel est bleu.", "The sky is blue."),
    ("La neige est blanche.", "Snow is white."),
    ("Raconte-moi une histoire.", "Tell me a story."),
    ("Une semaine a 7 jours.", "A week has 7 days."),
)

_GERMAN_THINGS: Pairs = (
    ("Äpfel", "apples"), ("Bücher", "books"), ("Katzen", "cats"), ("Hunde", "dogs"),
    ("Häuser", "houses"), ("Blumen", "flowers"), ("Freunde", "friends"),
)  # fmt: skip
_FRENCH_THINGS: Pairs = (
    ("pommes", "apples"), ("livres", "books"), ("chats", "cats"), ("chiens", "dogs"),
    ("maisons", "houses"), ("fleurs", "flowers"), ("amis", "friends"),
)  # fmt: skip
_GERMAN_CAPITALS: Pairs = (
    ("Frankreich|Paris", "France|Paris"), ("Deutschland|Berlin", "Germany|Berlin"),
    ("Italien|Rom", "Italy|Rome"), ("Spanien|Madrid", "Spain|Madrid"),
    ("Polen|Warschau", "Poland|Warsaw"), ("Japan|Tokio", "Japan|Tokyo"),
)  # fmt: skip
_FRENCH_CAPITALS: Pairs = (
    ("de la France|Paris", "France|Paris"), ("de l'Allemagne|Berlin", "Germany|Berlin"),
    ("de l'Italie|Rome", "Italy|Rome"), ("de l'Espagne|Madrid", "Spain|Madrid"),
    ("de la Pologne|Varsovie", "Poland|Warsaw"), ("du Japon|Tokyo", "Japan|Tokyo"),
)  # fmt: skip


def _german(rng: Random) -> tuple[str, str, bool]:
    a, b, name = rng.randint(2, 20), rng.randint(2, 20), rng.choice(_NAMES)
    thing, things = rng.choice(_GERMAN_THINGS)
    (land, city), (country, town) = (s.split("|") for s in rng.choice(_GERMAN_CAPITALS))
    if rng.random() < 0.4:
        return *rng.choice(_GERMAN), False
    return rng.choice((
        (f"Ich habe {a} {thing}.", f"I have {a} {things}.", True),
        (f"Wir brauchen {a} {thing}.", f"We need {a} {things}.", True),
        (f"Was ist {a} plus {b}?", f"What is {a} plus {b}?", True),
        (f"{a} plus {b} ist {a + b}.", f"{a} plus {b} is {a + b}.", True),
        (f"Ich heiße {name}.", f"My name is {name}.", True),
        (f"Guten Tag, mein Name ist {name}.", f"Good day, my name is {name}.", True),
        (f"Die Hauptstadt von {land} ist {city}.", f"The capital of {country} is {town}.", False),
        (f"Was ist die Hauptstadt von {land}?", f"What is the capital of {country}?", False),
    ))  # fmt: skip


def _french(rng: Random) -> tuple[str, str, bool]:
    a, b, name = rng.randint(2, 20), rng.randint(2, 20), rng.choice(_NAMES)
    thing, things = rng.choice(_FRENCH_THINGS)
    (land, city), (country, town) = (s.split("|") for s in rng.choice(_FRENCH_CAPITALS))
    if rng.random() < 0.4:
        return *rng.choice(_FRENCH), False
    return rng.choice((
        (f"J'ai {a} {thing}.", f"I have {a} {things}.", True),
        (f"Il y a {a} {thing} ici.", f"There are {a} {things} here.", True),
        (f"Combien font {a} plus {b} ?", f"What is {a} plus {b}?", True),
        (f"{a} plus {b} font {a + b}.", f"{a} plus {b} is {a + b}.", True),
        (f"Je m'appelle {name}.", f"My name is {name}.", True),
        (f"Bonjour, mon nom est {name}.", f"Hello, my name is {name}.", True),
        (f"La capitale {land} est {city}.", f"The capital of {country} is {town}.", False),
        (f"Quelle est la capitale {land} ?", f"What is the capital of {country}?", False),
    ))  # fmt: skip


FOREIGN: dict[str, ForeignTable] = {"de": _german, "fr": _french}
