"""Frames of what can be asked and said of people, things and cities, as plain data.

``{a}`` is the subject of a sentence, ``{b}`` what is said of it.  Nothing here has behaviour:
:mod:`.topics` draws from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from scripts.demo_chat import phrases as P
from scripts.demo_chat.facts import CAPITALS, MONTHS, SOUNDS


@dataclass(frozen=True)
class Frame:
    """One kind of knowledge: questions for ``{b}``, statements of both, questions for ``{a}``."""

    name: str
    questions: tuple[str, ...]
    statements: tuple[str, ...]
    inverse: tuple[str, ...] = ()


PEOPLE = tuple(name for name in P.REAL_NAMES if name.isascii() and " " not in name)
CITIES = (*CAPITALS.values(), "Paris", "Hamburg", "Milan", "Boston", "Kyoto", "Porto", "Geneva")
COUNTRIES = (*CAPITALS, *P.OTHER_COUNTRIES)
ANIMALS = (*SOUNDS, "rabbit", "mouse", "monkey", "zebra", "penguin", "tiger", "fish", "bird")
JOBS = (
    "teacher", "doctor", "baker", "pilot", "farmer", "painter", "singer", "cook", "writer",
    "driver", "judge", "nurse", "dentist", "gardener", "programmer", "lawyer",
)  # fmt: skip
FOODS = (
    "bread", "cheese", "pizza", "pasta", "soup", "chocolate", "honey", "rice", "cake", "salad",
    "bananas", "carrots", "tomatoes", "apples", "eggs", "potatoes",
)  # fmt: skip
PLAYED = (
    "football", "tennis", "chess", "the piano", "the guitar", "cards", "the violin", "golf",
    "the drums", "basketball", "the flute", "handball",
)  # fmt: skip
THINGS = (
    "table", "car", "train", "plane", "ship", "house", "mirror", "window", "door", "phone",
    "camera", "book", "song", "piano", "guitar", "painting", "robot", "rocket", "knife", "computer",
    "battery", "magnet", "engine", "shoe", "hat", "dress", "stone", "flower", "clock", "lamp",
    "chair", "bottle", "bicycle", "bag", "key", "cup", "pen", "ball", "coat", "ring",
)  # fmt: skip
PLACES = (
    "on the table", "under the chair", "in the kitchen", "in the garden", "behind the door",
    "in the box", "at school", "in the car", "near the window", "on the roof", "by the river",
    "in the forest", "in the tower", "next to the bank", "under the bridge", "in the bag",
)  # fmt: skip
HUES = ("red", "green", "blue", "white", "black", "yellow", "orange", "brown", "pink", "grey")
WEATHERS = ("sunny", "rainy", "cloudy", "windy", "cold", "hot", "foggy", "stormy", "dry", "wet")
VEHICLES = ("train", "plane", "ship", "car", "bus", "bicycle")

#: Frames of a person ``{a}``, each with the values that ``{b}`` may have.
OF_PEOPLE: tuple[tuple[Frame, tuple[str, ...]], ...] = (
    (
        Frame(
            "lives",
            ("Where does {a} live?", "In which city does {a} live?", "Where is the home of {a}?",
             "Where is {a}'s house?", "Which city is {a} living in?", "Tell me where {a} lives.",
             "{a} home city"),
            ("{a} lives in {b}.", "The home of {a} is in {b}.", "{a} has a house in {b}.",
             "{a} is living in {b}.", "{a}'s home is {b}.", "You find {a} at home in {b}."),
            ("Who lives in {b}?", "Who has a house in {b}?", "Whose home is in {b}?"),
        ),
        CITIES,
    ),
    (
        Frame(
            "pet",
            ("Which pet does {a} have?", "What animal does {a} keep?", "What pet does {a} own?",
             "Tell me which animal {a} has.", "What kind of pet has {a} got?", "{a} pet"),
            ("{a} has a {b} as a pet.", "{a} keeps a {b}.", "{a} owns a {b}.",
             "The pet of {a} is a {b}.", "{a}'s animal is a {b}.", "At home {a} has a {b}."),
            ("Who has a {b}?", "Who keeps a {b} at home?", "Whose pet is a {b}?"),
        ),
        ANIMALS,
    ),
    (
        Frame(
            "job",
            ("What is {a}'s job?", "What does {a} do for a living?", "What does {a} work as?",
             "What is the job of {a}?", "Tell me the profession of {a}.", "{a} job"),
            ("{a} works as a {b}.", "{a} is a {b}.", "The job of {a} is {b}.",
             "{a} earns money as a {b}.", "By profession {a} is a {b}.", "{a} became a {b}."),
            ("Who is a {b}?", "Who works as a {b}?", "Whose job is {b}?"),
        ),
        JOBS,
    ),
    (
        Frame(
            "food",
            ("What does {a} like to eat?", "What is {a}'s favourite food?",
             "What food does {a} like?", "What does {a} love to eat?",
             "Tell me what {a} likes to eat.", "{a} favourite food"),
            ("{a} likes to eat {b}.", "The favourite food of {a} is {b}.", "{a} loves {b}.",
             "{a} eats a lot of {b}.", "No food is better for {a} than {b}.", "{a} enjoys {b}."),
            ("Who likes to eat {b}?", "Who loves {b}?", "Whose favourite food is {b}?"),
        ),
        FOODS,
    ),
    (
        Frame(
            "plays",
            ("What does {a} play?", "What can {a} play?", "What does {a} play after school?",
             "Tell me what {a} plays.", "What has {a} learned to play?", "{a} plays what"),
            ("{a} plays {b}.", "{a} can play {b}.", "{a} plays {b} very well.",
             "{a} has learned to play {b}.", "In the evening {a} plays {b}."),
            ("Who plays {b}?", "Who can play {b}?", "Who has learned to play {b}?"),
        ),
        PLAYED,
    ),
    (
        Frame(
            "hue",
            ("What is {a}'s favourite colour?", "Which colour does {a} like most?",
             "What color does {a} prefer?", "Tell me the favourite color of {a}.",
             "{a} favourite colour"),
            ("{a}'s favourite colour is {b}.", "The colour that {a} likes most is {b}.",
             "{a} prefers the color {b}.", "{a} likes {b} more than all other colours.",
             "To {a} the best colour is {b}."),
            ("Whose favourite colour is {b}?", "Who likes {b} most?"),
        ),
        HUES,
    ),
    (
        Frame(
            "bought",
            ("What did {a} buy?", "What has {a} bought?", "Which thing did {a} buy?",
             "Tell me what {a} bought.", "What did {a} get in the shop?", "{a} bought what"),
            ("{a} bought a {b}.", "{a} has bought a new {b}.", "{a} got a {b} in the shop.",
             "{a} paid for a {b}.", "Yesterday {a} bought a {b}.", "A {b} was bought by {a}."),
            ("Who bought a {b}?", "Who has bought a new {b}?", "Who got a {b}?"),
        ),
        THINGS,
    ),
    (
        Frame(
            "travels",
            ("Where did {a} travel?", "Which country did {a} visit?",
             "Where did {a} go on holiday?", "Tell me where {a} went on holiday.",
             "To which country did {a} go?", "{a} holiday"),
            ("{a} travelled to {b}.", "{a} visited {b}.", "{a} went to {b} on holiday.",
             "{a} spent the holiday in {b}.", "The journey of {a} went to {b}."),
            ("Who travelled to {b}?", "Who visited {b}?", "Who went to {b} on holiday?"),
        ),
        COUNTRIES,
    ),
    (
        Frame(
            "age",
            ("How old is {a}?", "What is the age of {a}?", "What is {a}'s age?",
             "Tell me how old {a} is.", "How many years old is {a}?", "{a} age"),
            ("{a} is {b} years old.", "The age of {a} is {b}.", "{a} is {b} years of age.",
             "{a} has lived for {b} years.", "{a} turned {b} this year."),
            ("Who is {b} years old?", "Whose age is {b}?"),
        ),
        tuple(str(n) for n in range(5, 91)),
    ),
    (
        Frame(
            "born",
            ("When was {a} born?", "In which month is {a}'s birthday?",
             "When is the birthday of {a}?", "Tell me the month of {a}'s birth.",
             "Which month was {a} born in?", "{a} birthday"),
            ("{a} was born in {b}.", "The birthday of {a} is in {b}.", "{a} has birthday in {b}.",
             "{a}'s birthday party is in {b}.", "{b} is the month in which {a} was born."),
            ("Who was born in {b}?", "Whose birthday is in {b}?"),
        ),
        MONTHS,
    ),
    (
        Frame(
            "commute",
            ("How does {a} get to work?", "How does {a} go to work?", "What does {a} take to work?",
             "Tell me how {a} gets to work.", "{a} way to work"),
            ("{a} goes to work by {b}.", "{a} takes the {b} to work.", "{a} gets to work by {b}.",
             "On the way to work {a} uses the {b}."),
            ("Who goes to work by {b}?", "Who takes the {b} to work?"),
        ),
        VEHICLES,
    ),
)  # fmt: skip

#: Frames of a thing ``{a}``.
OF_THINGS: tuple[tuple[Frame, tuple[str, ...]], ...] = (
    (
        Frame(
            "where",
            ("Where is the {a}?", "Where can I find the {a}?", "In which place is the {a}?",
             "Do you know where the {a} is?", "I cannot find the {a}.", "{a} place"),
            ("The {a} is {b}.", "You can find the {a} {b}.", "Somebody put the {a} {b}.",
             "Look for the {a} {b}.", "I saw the {a} {b}."),
            ("What is {b}?", "Which thing is {b}?", "What can I find {b}?"),
        ),
        PLACES,
    ),
    (
        Frame(
            "price",
            ("What is the price of the {a}?", "How much does the {a} cost?",
             "How expensive is the {a}?", "How much do I have to pay for the {a}?",
             "Tell me the price of the {a}.", "{a} price"),
            ("The price of the {a} is {b} dollars.", "The {a} costs {b} dollars.",
             "You have to pay {b} dollars for the {a}.", "You get the {a} for {b} dollars.",
             "The {a} is sold for {b} dollars."),
            ("What costs {b} dollars?", "What can I get for {b} dollars?"),
        ),
        tuple(str(n) for n in (*range(2, 50), *range(50, 1000, 25))),
    ),
    (
        Frame(
            "weight",
            ("How heavy is the {a}?", "What does the {a} weigh?", "How much does the {a} weigh?",
             "What is the weight of the {a}?", "Tell me how heavy the {a} is.", "{a} weight"),
            ("The {a} weighs {b} kilograms.", "The weight of the {a} is {b} kilograms.",
             "The {a} is {b} kilograms heavy.", "The {a} has a weight of {b} kilograms."),
            ("What weighs {b} kilograms?", "Which thing is {b} kilograms heavy?"),
        ),
        tuple(str(n) for n in range(2, 100)),
    ),
    (
        Frame(
            "paint",
            ("What colour is the {a}?", "Which colour does the {a} have?", "What color is the {a}?",
             "Tell me the colour of the {a}.", "{a} colour"),
            ("The {a} is {b}.", "The colour of the {a} is {b}.", "The {a} is painted {b}.",
             "Somebody made the {a} {b}.", "It is a {b} {a}."),
            ("Which thing is painted {b}?", "Which thing did they paint {b}?"),
        ),
        HUES,
    ),
    (
        Frame(
            "maker",
            ("Who made the {a}?", "Who built the {a}?", "By whom was the {a} made?",
             "Tell me who made the {a}.", "Who is the maker of the {a}?", "{a} maker"),
            ("The {a} was made by {b}.", "{b} made the {a}.", "{b} built the {a}.",
             "The maker of the {a} is {b}.", "The {a} is the work of {b}."),
            ("What did {b} make?", "What was built by {b}?", "Which thing did {b} make?"),
        ),
        PEOPLE,
    ),
    (
        Frame(
            "owner",
            ("Whose {a} is this?", "Who is the owner of the {a}?", "Who owns the {a}?",
             "To whom does the {a} belong?", "{a} owner"),
            ("The {a} belongs to {b}.", "{b} is the owner of the {a}.", "{b} owns the {a}.",
             "This is {b}'s {a}."),
            ("What belongs to {b}?", "Which thing belongs to {b}?"),
        ),
        PEOPLE,
    ),
    (
        Frame(
            "state",
            ("What is wrong with the {a}?", "How is the {a}?", "Can I use the {a}?",
             "Does the {a} work?", "In what state is the {a}?"),
            ("The {a} is {b}.", "I am afraid the {a} is {b}.", "The {a} was {b} this morning.",
             "I think the {a} is {b}.", "They say that the {a} is {b}."),
        ),
        ("broken", "dirty", "empty", "new", "too old", "lost", "too small", "ready",
         "as good as new", "still in use"),
    ),
)  # fmt: skip

#: Frames of a city ``{a}``.
OF_CITIES: tuple[tuple[Frame, tuple[str, ...]], ...] = (
    (
        Frame(
            "weather",
            ("What is the weather in {a}?", "How is the weather in {a}?",
             "What is it like outside in {a}?", "Tell me the weather in {a}.",
             "Do I need a coat in {a}?", "{a} weather"),
            ("The weather in {a} is {b}.", "It is {b} in {a} today.", "Today is a {b} day in {a}.",
             "In {a} it will be {b}.", "{a} has {b} weather."),
            ("Where is it {b}?", "In which city is it {b} today?"),
        ),
        WEATHERS,
    ),
    (
        Frame(
            "distance",
            ("How far is it to {a}?", "What is the distance to {a}?",
             "How many kilometres is it to {a}?", "Is it a long way to {a}?",
             "Tell me how far away {a} is.", "{a} distance"),
            ("It is {b} kilometres to {a}.", "{a} is {b} kilometres away.",
             "The distance to {a} is {b} kilometres.", "You have to go {b} kilometres to {a}."),
            ("Which city is {b} kilometres away?",),
        ),
        tuple(str(n) for n in range(10, 1000, 10)),
    ),
    (
        Frame(
            "going",
            ("How do I get to {a}?", "How can I travel to {a}?", "What is the best way to {a}?",
             "How should I go to {a}?", "{a} how to get there"),
            ("You get to {a} by {b}.", "Take the {b} to {a}.", "The best way to {a} is by {b}.",
             "Go to {a} by {b}.", "A {b} brings you to {a}."),
        ),
        VEHICLES,
    ),
    (
        Frame(
            "famous",
            ("What is {a} famous for?", "What is {a} known for?", "Why do people visit {a}?",
             "What can I see in {a}?", "{a} sights"),
            ("{a} is famous for its {b}.", "{a} is known for its {b}.",
             "People visit {a} for its {b}.", "In {a} you can see the {b}.",
             "Everybody in {a} knows the {b}."),
            ("Which city is famous for its {b}?", "Which city is known for its {b}?"),
        ),
        ("bridge", "tower", "river", "music", "castle", "market", "museum", "park", "harbour",
         "university", "church", "beach", "library", "zoo"),
    ),
)  # fmt: skip
