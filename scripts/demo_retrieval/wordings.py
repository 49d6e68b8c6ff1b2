"""More ways to say what the demo chat model knows, as plain data.

The facts, families and small talk stand in the demo chat model's tables; :mod:`.topics` puts both
together.
"""

from __future__ import annotations

from .frames import Frame

#: By the name of the family in the demo chat model's tables.
FAMILIES: dict[str, Frame] = {
    frame.name: frame
    for frame in (
        Frame(
            "capital",
            ("capital of {a}", "{a} capital city"),
            ("The capital of {a} is {b}.", "{b} is the capital of {a}.", "{a}'s capital is {b}.",
             "{a} has {b} as its capital.", "The capital city of {a} is called {b}.",
             "The government of {a} sits in {b}, its capital.", "{b} is the main city of {a}."),
            ("Which country has {b} as its capital?", "{b} is the capital of which country?",
             "Of which country is {b} the capital?", "What country has the capital {b}?"),
        ),
        Frame(
            "colour",
            ("colour of {a}", "How does {a} look, what colour?"),
            ("The colour of {a} is {b}.", "{a} is {b}.", "{a} has a {b} colour.",
             "The color of {a} is {b}.", "{a} looks {b}.", "If you look at {a} you see {b}."),
        ),
        Frame(
            "sound",
            ("sound of a {a}", "{a} noise"),
            ("A {a} says {b}.", "The sound of a {a} is {b}.", "A {a} makes the sound {b}.",
             "{b} is what a {a} says.", "The {a} goes {b}.", "A {a} makes a noise like {b}."),
            ("Which animal says {b}?", "What animal goes {b}?", "Which animal makes the sound {b}?",
             "Who says {b}?"),
        ),
        Frame(
            "legs",
            ("legs of a {a}", "number of legs {a}"),
            ("A {a} has {b} legs.", "There are {b} legs on a {a}.", "Every {a} has {b} legs.",
             "The body of a {a} has {b} legs.", "{b} legs: that is what a {a} has."),
        ),
        Frame(
            "opposite",
            ("{a} opposite", "opposite word of {a}"),
            ("The opposite of {a} is {b}.", "{b} is the opposite of {a}.",
             "{a} and {b} are opposites.", "{a} means the opposite of {b}.",
             "What is not {a} is {b}."),
        ),
        Frame(
            "day-after",
            ("day after {a}", "next day {a}"),
            ("The day after {a} is {b}.", "{b} comes after {a}.", "After {a} comes {b}.",
             "{a} is followed by {b}.", "{b} is the next day after {a}."),
        ),
        Frame(
            "day-before",
            ("day before {a}", "previous day {a}"),
            ("The day before {a} is {b}.", "{b} comes before {a}.", "Before {a} comes {b}.",
             "{a} comes one day later than {b}.", "{b} is one day earlier than {a}."),
        ),
        Frame(
            "month-after",
            ("month after {a}", "next month {a}"),
            ("The month after {a} is {b}.", "{b} comes after {a}.", "After {a} comes {b}.",
             "{a} is followed by {b}.", "{b} is the next month after {a}."),
        ),
    )
}  # fmt: skip

#: More ways to state a fact, by its key in the demo chat model's table.
STATEMENTS: dict[str, tuple[str, ...]] = {
    "scatters blue light": (
        "Blue light is scattered by the air, so the sky looks blue.",
        "Air scatters blue light most, which makes the sky blue.",
        "We see a blue sky because of light that the air scatters.",
    ),
    "rotary position embedding": (
        "RoPE stands for rotary position embedding.",
        "A rotary position embedding rotates queries and keys to say where a token is.",
        "RoPE is how a transformer knows the position of a token.",
    ),
    "Once upon a time": (
        "Here is a story: a small robot found a lost kitten in the rain.",
        "This is the story of a robot and a kitten that became friends.",
        "A short story tells of a robot that held a leaf over a kitten.",
    ),
    "It had a virus": (
        "Here is a joke: the computer went to the doctor because it had a virus.",
        "This is a joke about a computer with a virus.",
        "A funny one: a computer had a virus and went to the doctor.",
    ),
    "Jupiter": (
        "Jupiter is the largest planet.", "No planet is bigger than Jupiter.",
        "The biggest planet is called Jupiter.", "Of all planets Jupiter is the biggest.",
    ),
    "Mercury": (
        "Mercury is the smallest planet.", "No planet is smaller than Mercury.",
        "The planet Mercury is smaller than all others.",
    ),
    "eight planets": (
        "The solar system has eight planets.", "The number of planets is eight.",
        "Eight planets go around the sun.",
    ),
    "Mars": (
        "Mars is the red planet.", "The planet Mars is red.", "The planet that looks red is Mars.",
    ),
    "Saturn": (
        "Saturn has big rings.", "Saturn is the planet with the rings.",
        "Rings go around the planet Saturn.",
    ),
    "Jupiter, Saturn, Uranus and Neptune": (
        "Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and Neptune are the planets.",
        "The names of the planets are Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and "
        "Neptune.",
        "A list of the planets: Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus, Neptune.",
    ),
    "Earth": (
        "Our planet is called Earth.", "Earth is the planet we live on.", "Our home is the Earth.",
        "People live on the planet Earth.",
    ),
    "seven days": (
        "There are seven days in a week.", "Seven days make a week.",
        "The number of days in a week is seven.",
    ),
    "Friday, Saturday and Sunday": (
        "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday are the days of the "
        "week.",
        "A list of the days: Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday.",
        "The names of the days are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and "
        "Sunday.",
    ),
    "twelve months": (
        "There are twelve months in a year.", "Twelve months make a year.",
        "The number of months in a year is twelve.",
    ),
    "365 days": (
        "There are 365 days in a year.", "365 days make a year.",
        "The number of days in a year is 365.",
    ),
    "24 hours": (
        "There are 24 hours in a day.", "24 hours make a day.",
        "The number of hours in a day is 24.",
    ),
    "60 minutes": (
        "There are 60 minutes in an hour.", "60 minutes make an hour.",
        "The number of minutes in an hour is 60.",
    ),
    "60 seconds": (
        "There are 60 seconds in a minute.", "60 seconds make a minute.",
        "The number of seconds in a minute is 60.",
    ),
    "spring, summer, autumn and winter": (
        "Spring, summer, autumn and winter are the four seasons.",
        "The seasons are spring, summer, autumn and winter.",
        "A list of the seasons: spring, summer, autumn, winter.",
    ),
    "Pacific": (
        "The Pacific is the largest ocean.", "No ocean is bigger than the Pacific.",
        "The biggest ocean is called the Pacific.",
    ),
    "Everest": (
        "Mount Everest is the highest mountain.", "No mountain is higher than Mount Everest.",
        "The tallest mountain is called Everest.",
    ),
    "blue whale": (
        "The blue whale is the largest animal.", "No animal is bigger than the blue whale.",
        "The biggest animal is called the blue whale.",
    ),
    "cheetah": (
        "The cheetah is the fastest animal on land.", "No animal runs faster than the cheetah.",
        "The cheetah is the fastest runner.",
    ),
    "honey": (
        "Honey is made by bees.", "A bee makes honey.", "Honey comes from bees.",
    ),
    "milk": (
        "Milk comes from cows.", "A cow gives milk.", "We get milk from cows.",
    ),
    "hydrogen and oxygen": (
        "Hydrogen and oxygen make water.", "Water consists of hydrogen and oxygen.",
        "H2O is hydrogen and oxygen.",
    ),
    "100 degrees": (
        "The boiling point of water is 100 degrees Celsius.", "At 100 degrees water boils.",
        "Boiling water has a temperature of 100 degrees.",
    ),
    "0 degrees": (
        "The freezing point of water is 0 degrees Celsius.", "At 0 degrees water freezes.",
        "Freezing water has a temperature of 0 degrees.",
    ),
    "frozen water": (
        "Frozen water is called ice.", "Ice is made of frozen water.",
        "Ice is what water becomes when it is frozen.",
    ),
    "Shakespeare": (
        "Romeo and Juliet was written by William Shakespeare.",
        "The author of Romeo and Juliet is Shakespeare.",
        "Romeo and Juliet is a play by Shakespeare.",
    ),
    "Leonardo da Vinci": (
        "The Mona Lisa was painted by Leonardo da Vinci.",
        "The painter of the Mona Lisa is Leonardo da Vinci.",
        "The Mona Lisa is a painting by Leonardo da Vinci.",
    ),
    "Neil Armstrong": (
        "Neil Armstrong was the first person on the moon.",
        "The first man who walked on the moon was Neil Armstrong.",
        "Nobody was on the moon before Neil Armstrong.",
    ),
    "programming language": (
        "Python is a language for programs.", "Programs can be written in Python.",
        "One programming language is called Python.",
    ),
    "follows instructions": (
        "A machine that follows instructions is called a computer.",
        "Computers are machines that do what instructions say.",
        "A computer is a kind of machine.",
    ),
    "predicts the next token": (
        "LLMs are programs that predict the next token.",
        "A program that predicts the next token of a text is a language model.",
        "Language models predict what comes next in a text.",
    ),
    "piece of text": (
        "Tokens are small pieces of text.", "A small piece of text is called a token.",
        "A word or a part of a word is a token.",
    ),
    "look at the tokens before it": (
        "With attention a token looks at the tokens before it.",
        "In a transformer, attention is how a token sees earlier tokens.",
        "Attention is how tokens look at each other.",
    ),
    "built from attention layers": (
        "Transformers are neural networks built from attention layers.",
        "Attention layers make a transformer.",
        "A neural network with attention layers is called a transformer.",
    ),
    "learns from examples": (
        "Neural networks are programs that learn from examples.",
        "A program that learns from examples is called a neural network.",
        "Examples teach a neural network.",
    ),
    "array framework": (
        "MLX is made for machine learning on Apple silicon.",
        "An array framework for Apple silicon is called MLX.",
        "With MLX an Apple computer does machine learning.",
    ),
    "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z": (
        "The alphabet is A B C D E F G H I J K L M N O P Q R S T U V W X Y Z.",
        "The letters of the alphabet go from A to Z.",
        "The alphabet begins with A B C and ends with X Y Z.",
    ),
    "26 letters": (
        "There are 26 letters in the alphabet.", "The number of letters is 26.",
        "26 letters make the English alphabet.",
    ),
    "42": (
        "The meaning of life is 42.", "42 is said to be the meaning of life.",
        "What life means is 42, as some people say.",
    ),
    "three sides": (
        "There are three sides on a triangle.", "Every triangle has three sides.",
        "The number of sides of a triangle is three.",
    ),
    "four sides": (
        "There are four sides on a square.", "Every square has four sides.",
        "The number of sides of a square is four.",
    ),
    "water, air and light": (
        "A plant needs water, air and light to grow.", "Water, air and light are what plants need.",
        "Without water, air and light a plant does not grow.",
    ),
    "round": (
        "The shape of the Earth is round.", "The Earth is not flat.",
        "The Earth is round like a ball.",
    ),
    "a star": (
        "The sun is one of the stars.", "Our sun is a star.", "One star is called the sun.",
    ),
    "ball of rock": (
        "A ball of rock that goes around the Earth is the moon.",
        "The moon is made of rock.", "The moon goes around the Earth.",
    ),
    "Russia": (
        "Russia is the largest country.", "No country is bigger than Russia.",
        "The biggest country is called Russia.",
    ),
}  # fmt: skip

#: Facts and families that say part of the same, so that neither is wrong for the other.
SAME: dict[str, str] = {
    "scatters blue light": "the sky is blue",
    "colour|the sky": "the sky is blue",
    "eight planets": "the planets",
    "Jupiter, Saturn, Uranus and Neptune": "the planets",
    "seven days": "the days of the week",
    "Friday, Saturday and Sunday": "the days of the week",
    "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z": "the alphabet",
    "26 letters": "the alphabet",
    "frozen water": "freezing",
    "0 degrees": "freezing",
    "built from attention layers": "attention",
    "look at the tokens before it": "attention",
}

#: Small talk of which everything means about the same.
SMALL_TALK = frozenset(
    {"greeting", "morning", "evening", "how-are-you", "i-am-fine", "sad", "bored", "thanks", "bye",
     "meet", "sorry", "insult", "compliment"}
)  # fmt: skip

#: Small talk that asks something, and what else answers it besides the demo chat model's reply.
ASKED: dict[str, tuple[str, ...]] = {
    "abilities": (
        "I can do simple sums and chat.", "You can ask me for facts, sums or a story.",
        "What I can do is count, add and talk a little.",
    ),
    "what-are-you": (
        "I am a small program and not a human.", "I am a machine, a tiny model.",
        "I am not a person but a bot.",
    ),
    "maker": (
        "A small script made me.", "I come from a script that trained me.",
        "My maker is a training script.",
    ),
    "age": (
        "A program has no age and no birthday.", "I was never born, so I am not old.",
        "I have no age.",
    ),
    "home": (
        "My home is this computer.", "I am in this computer.", "I live in a machine.",
    ),
    "languages": (
        "English is the only language I speak.", "My language is English.",
        "I know no language but English.",
    ),
}  # fmt: skip

NAME_STATEMENTS = ("My name is Demo.", "I am called Demo.", "You can call me Demo.")
WHO_STATEMENTS = (
    "I am Demo, a tiny demo chat model.", "You are talking to Demo, a small chat model.",
    "This is Demo, a model for demos.",
)  # fmt: skip
OWN_NAME_STATEMENTS = (
    "I do not know your name yet.", "You have not told me your name.",
    "Your name is not known to me.",
)  # fmt: skip
