"""What the demo model knows: tables of facts and small talk, as plain data.

Nothing here is random and nothing here has behaviour: :mod:`.data` turns these tables into
conversations.  To teach the model something new, add a row.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Facts that share their phrasings: every ``x`` of ``pairs`` is asked for, ``y`` is said."""

    name: str
    phrasings: tuple[str, ...]
    answer: str
    pairs: dict[str, str]
    #: False where an ``x`` that is not in ``pairs`` still has a well-known answer, or where the
    #: phrasings do not mention ``x``, so that no unknown ``x`` may be made up for a refusal.
    open_ended: bool = True


@dataclass(frozen=True)
class Fact:
    """One fact with its own phrasings; ``key`` is the part of the answer that must be right."""

    questions: tuple[str, ...]
    answer: str
    key: str


@dataclass(frozen=True)
class Intent:
    """Small talk: whatever of ``says`` the user says, the model gives ``reply``."""

    name: str
    says: tuple[str, ...]
    reply: str
    #: Whether a greeting may be put in front ("Hi, how are you?") without changing the reply.
    greetable: bool = True


CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid",
    "Portugal": "Lisbon", "England": "London", "Ireland": "Dublin", "Austria": "Vienna",
    "Poland": "Warsaw", "Greece": "Athens", "Norway": "Oslo", "Sweden": "Stockholm",
    "Denmark": "Copenhagen", "Finland": "Helsinki", "Belgium": "Brussels", "Russia": "Moscow",
    "Japan": "Tokyo", "China": "Beijing", "India": "New Delhi", "Egypt": "Cairo",
    "Canada": "Ottawa", "Mexico": "Mexico City", "Brazil": "Brasilia", "Australia": "Canberra",
    "the United States": "Washington", "Switzerland": "Bern", "Turkey": "Ankara",
    "the Netherlands": "Amsterdam",
}  # fmt: skip

COLOURS = {
    "grass": "green", "the sky": "blue", "snow": "white", "blood": "red", "coal": "black",
    "a lemon": "yellow", "a banana": "yellow", "an orange": "orange", "a carrot": "orange",
    "milk": "white", "chocolate": "brown", "a tomato": "red", "the sun": "yellow",
}  # fmt: skip

SOUNDS = {
    "cow": "moo", "dog": "woof", "cat": "meow", "sheep": "baa", "pig": "oink",
    "duck": "quack", "lion": "roar", "bee": "buzz", "horse": "neigh", "frog": "ribbit",
    "snake": "hiss", "owl": "hoot",
}  # fmt: skip

LEGS = {
    "dog": "four", "cat": "four", "cow": "four", "horse": "four", "spider": "eight",
    "ant": "six", "bee": "six", "bird": "two", "human": "two", "snake": "no", "fish": "no",
    "elephant": "four",
}  # fmt: skip

OPPOSITES = {
    "hot": "cold", "cold": "hot", "big": "small", "small": "big", "up": "down", "down": "up",
    "fast": "slow", "slow": "fast", "day": "night", "night": "day", "good": "bad",
    "bad": "good", "black": "white", "white": "black", "open": "closed", "happy": "sad",
    "old": "young", "young": "old", "left": "right", "right": "left", "yes": "no",
    "light": "dark", "dark": "light", "rich": "poor", "wet": "dry", "dry": "wet",
}  # fmt: skip

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip


def _cycle(names: tuple[str, ...], step: int) -> dict[str, str]:
    """Map every name to the one ``step`` places later, going round."""
    return {name: names[(i + step) % len(names)] for i, name in enumerate(names)}


FAMILIES: tuple[Family, ...] = (
    Family(
        "capital",
        (
            "What is the capital of {x}?", "What's the capital of {x}?", "The capital of {x}?",
            "Which city is the capital of {x}?", "Tell me the capital of {x}.",
            "Name the capital of {x}.", "What is {x}'s capital?", "{x}: capital?",
            "Do you know the capital of {x}?", "Can you tell me the capital of {x}?",
        ),
        "The capital of {x} is {y}.",
        CAPITALS,
    ),
    Family(
        "colour",
        (
            "What colour is {x}?", "What color is {x}?", "Which colour is {x}?",
            "Which color is {x}?", "What is the colour of {x}?", "What is the color of {x}?",
            "Tell me the colour of {x}.", "What's the color of {x}?",
            "Do you know what color {x} is?",
        ),
        "The colour of {x} is {y}.",
        COLOURS,
    ),
    Family(
        "sound",
        (
            "What sound does a {x} make?", "What does a {x} say?", "What noise does a {x} make?",
            "How does a {x} sound?", "Tell me what sound a {x} makes.", "What do {x}s say?",
            "Which sound does the {x} make?", "What is the sound of a {x}?",
        ),
        "A {x} says {y}.",
        SOUNDS,
    ),
    Family(
        "legs",
        (
            "How many legs does a {x} have?", "How many legs has a {x}?",
            "How many legs does the {x} have?", "What number of legs does a {x} have?",
            "Tell me how many legs a {x} has.", "A {x} has how many legs?",
            "Do you know how many legs a {x} has?",
        ),
        "A {x} has {y} legs.",
        LEGS,
    ),
    Family(
        "opposite",
        (
            "What is the opposite of {x}?", "What's the opposite of {x}?", "The opposite of {x}?",
            "Tell me the opposite of {x}.", "Opposite of {x}?", "Name the opposite of {x}.",
            "Which word is the opposite of {x}?", "What is the opposite of the word {x}?",
        ),
        "The opposite of {x} is {y}.",
        OPPOSITES,
    ),
    Family(
        "day-after",
        (
            "What day comes after {x}?", "Which day comes after {x}?", "What day is after {x}?",
            "What comes after {x}?", "Which day follows {x}?", "Tell me the day after {x}.",
            "What is the day after {x}?", "What is the next day after {x}?",
        ),
        "The day after {x} is {y}.",
        _cycle(DAYS, 1),
        open_ended=False,
    ),
    Family(
        "day-before",
        (
            "What day comes before {x}?", "Which day comes before {x}?",
            "What day is before {x}?", "What comes before {x}?", "Tell me the day before {x}.",
            "What is the day before {x}?", "Which day is before {x}?",
        ),
        "The day before {x} is {y}.",
        _cycle(DAYS, -1),
        open_ended=False,
    ),
    Family(
        "month-after",
        (
            "What month comes after {x}?", "Which month comes after {x}?",
            "What month is after {x}?", "What comes after {x}?", "Which month follows {x}?",
            "Tell me the month after {x}.", "What is the month after {x}?",
        ),
        "The month after {x} is {y}.",
        _cycle(MONTHS, 1),
        open_ended=False,
    ),
)  # fmt: skip

FACTS: tuple[Fact, ...] = (
    Fact(
        ("Why is the sky blue?", "Why does the sky look blue?", "Explain why the sky is blue.",
         "What makes the sky blue?", "How come the sky is blue?"),
        "The sky is blue because air scatters blue light more than red light.",
        "scatters blue light",
    ),
    Fact(
        ("What is RoPE?", "What's RoPE?", "Explain RoPE.", "What does RoPE mean?",
         "What is rotary position embedding?", "Explain rotary position embedding.",
         "What is RoPE in a transformer?", "Explain RoPE in one sentence."),
        "RoPE, the rotary position embedding, tells a transformer where each token is by "
        "rotating its queries and keys.",
        "rotary position embedding",
    ),
    Fact(
        ("Tell me a story.", "Tell a story.", "Can you tell me a story?", "Write a short story.",
         "Write me a story.", "I want to hear a story.", "Tell me a short story.",
         "Write a story."),
        "Once upon a time a small robot found a lost kitten in the rain. It held a leaf over "
        "the kitten all night. In the morning they were friends. The end.",
        "Once upon a time",
    ),
    Fact(
        ("Tell me a joke.", "Tell a joke.", "Do you know a joke?", "Make me laugh.",
         "Can you tell me a joke?", "Say something funny.", "I want to hear a joke."),
        "Why did the computer go to the doctor? It had a virus!",
        "It had a virus",
    ),
    Fact(
        ("What is the largest planet?", "Which planet is the largest?", "Name the biggest planet.",
         "Which planet is the biggest?", "What is the biggest planet?"),
        "The largest planet is Jupiter.",
        "Jupiter",
    ),
    Fact(
        ("What is the smallest planet?", "Which planet is the smallest?",
         "Name the smallest planet.", "Tell me the smallest planet."),
        "The smallest planet is Mercury.",
        "Mercury",
    ),
    Fact(
        ("How many planets are there?", "How many planets are in the solar system?",
         "How many planets does the solar system have?", "Count of planets?"),
        "There are eight planets.",
        "eight planets",
    ),
    Fact(
        ("Which planet is red?", "What is the red planet?", "Which planet is the red planet?",
         "Name the red planet."),
        "The red planet is Mars.",
        "Mars",
    ),
    Fact(
        ("Which planet has rings?", "What planet has rings?", "Name the planet with rings.",
         "Which planet is known for its rings?"),
        "The planet with the big rings is Saturn.",
        "Saturn",
    ),
    Fact(
        ("Name the planets.", "What are the planets?", "List the planets.",
         "Tell me the names of the planets.", "Can you list all planets?"),
        "The planets are Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and Neptune.",
        "Jupiter, Saturn, Uranus and Neptune",
    ),
    Fact(
        ("On which planet do we live?", "What planet do we live on?", "Which planet is our home?",
         "What is our planet called?"),
        "We live on the planet Earth.",
        "Earth",
    ),
    Fact(
        ("How many days are in a week?", "How many days does a week have?",
         "How many days are there in a week?", "A week has how many days?"),
        "A week has seven days.",
        "seven days",
    ),
    Fact(
        ("Name the days of the week.", "What are the days of the week?",
         "List the days of the week.", "Tell me the days of the week."),
        "The days of the week are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and "
        "Sunday.",
        "Friday, Saturday and Sunday",
    ),
    Fact(
        ("How many months are in a year?", "How many months does a year have?",
         "How many months are there in a year?", "A year has how many months?"),
        "A year has twelve months.",
        "twelve months",
    ),
    Fact(
        ("How many days are in a year?", "How many days does a year have?",
         "How many days are there in a year?", "A year has how many days?"),
        "A year has 365 days.",
        "365 days",
    ),
    Fact(
        ("How many hours are in a day?", "How many hours does a day have?",
         "How many hours are there in a day?", "A day has how many hours?"),
        "A day has 24 hours.",
        "24 hours",
    ),
    Fact(
        ("How many minutes are in an hour?", "How many minutes does an hour have?",
         "How many minutes are there in an hour?", "An hour has how many minutes?"),
        "An hour has 60 minutes.",
        "60 minutes",
    ),
    Fact(
        ("How many seconds are in a minute?", "How many seconds does a minute have?",
         "How many seconds are there in a minute?", "A minute has how many seconds?"),
        "A minute has 60 seconds.",
        "60 seconds",
    ),
    Fact(
        ("What are the seasons?", "Name the seasons.", "Name the four seasons.",
         "What are the four seasons?", "List the seasons."),
        "The four seasons are spring, summer, autumn and winter.",
        "spring, summer, autumn and winter",
    ),
    Fact(
        ("What is the largest ocean?", "Which ocean is the largest?", "Name the biggest ocean.",
         "What is the biggest ocean?"),
        "The largest ocean is the Pacific Ocean.",
        "Pacific",
    ),
    Fact(
        ("What is the highest mountain?", "Which mountain is the highest?",
         "What is the tallest mountain?", "Name the highest mountain."),
        "The highest mountain is Mount Everest.",
        "Everest",
    ),
    Fact(
        ("What is the largest animal?", "Which animal is the largest?",
         "What is the biggest animal?", "Name the biggest animal."),
        "The largest animal is the blue whale.",
        "blue whale",
    ),
    Fact(
        ("What is the fastest animal on land?", "What is the fastest land animal?",
         "Which animal runs fastest?", "Which animal is the fastest runner?"),
        "The fastest animal on land is the cheetah.",
        "cheetah",
    ),
    Fact(
        ("What do bees make?", "What does a bee make?", "What is made by bees?",
         "Tell me what bees make."),
        "Bees make honey.",
        "honey",
    ),
    Fact(
        ("What do cows give us?", "What do we get from cows?", "What does a cow give?",
         "Tell me what cows give us."),
        "Cows give us milk.",
        "milk",
    ),
    Fact(
        ("What is water made of?", "What does water consist of?", "What is H2O?",
         "What are the parts of water?"),
        "Water is made of hydrogen and oxygen.",
        "hydrogen and oxygen",
    ),
    Fact(
        ("At what temperature does water boil?", "When does water boil?",
         "How hot is boiling water?", "What is the boiling point of water?"),
        "Water boils at 100 degrees Celsius.",
        "100 degrees",
    ),
    Fact(
        ("At what temperature does water freeze?", "When does water freeze?",
         "What is the freezing point of water?", "How cold is freezing water?"),
        "Water freezes at 0 degrees Celsius.",
        "0 degrees",
    ),
    Fact(
        ("What is ice?", "What is ice made of?", "What's ice?", "Explain ice."),
        "Ice is frozen water.",
        "frozen water",
    ),
    Fact(
        ("Who wrote Romeo and Juliet?", "Who is the author of Romeo and Juliet?",
         "Romeo and Juliet was written by whom?", "Who wrote the play Romeo and Juliet?"),
        "William Shakespeare wrote Romeo and Juliet.",
        "Shakespeare",
    ),
    Fact(
        ("Who painted the Mona Lisa?", "Who is the painter of the Mona Lisa?",
         "The Mona Lisa was painted by whom?", "Which artist painted the Mona Lisa?"),
        "Leonardo da Vinci painted the Mona Lisa.",
        "Leonardo da Vinci",
    ),
    Fact(
        ("Who was the first person on the moon?", "Who walked on the moon first?",
         "Who was the first man on the moon?", "Name the first person on the moon."),
        "The first person on the moon was Neil Armstrong.",
        "Neil Armstrong",
    ),
    Fact(
        ("What is Python?", "What's Python?", "Explain Python.", "Tell me about Python.",
         "What is the Python language?"),
        "Python is a programming language.",
        "programming language",
    ),
    Fact(
        ("What is a computer?", "What's a computer?", "Explain what a computer is.",
         "Tell me what a computer is."),
        "A computer is a machine that follows instructions.",
        "follows instructions",
    ),
    Fact(
        ("What is a language model?", "What's a language model?", "Explain language models.",
         "What is an LLM?", "What does a language model do?"),
        "A language model is a program that predicts the next token of a text.",
        "predicts the next token",
    ),
    Fact(
        ("What is a token?", "What's a token?", "Explain tokens.", "What does token mean?",
         "Explain what a token is."),
        "A token is a small piece of text, such as a word or a part of a word.",
        "piece of text",
    ),
    Fact(
        ("What is attention?", "What's attention?", "Explain attention.",
         "What is attention in a transformer?", "Explain attention in one sentence."),
        "Attention lets each token of a transformer look at the tokens before it.",
        "look at the tokens before it",
    ),
    Fact(
        ("What is a transformer?", "What's a transformer?", "Explain transformers.",
         "Explain what a transformer is."),
        "A transformer is a neural network that is built from attention layers.",
        "built from attention layers",
    ),
    Fact(
        ("What is a neural network?", "What's a neural network?", "Explain neural networks.",
         "What are neural networks?"),
        "A neural network is a program that learns from examples.",
        "learns from examples",
    ),
    Fact(
        ("What is MLX?", "What's MLX?", "Explain MLX.", "Tell me about MLX.",
         "What does MLX do?"),
        "MLX is an array framework for machine learning on Apple silicon.",
        "array framework",
    ),
    Fact(
        ("What is the alphabet?", "Say the alphabet.", "Tell me the alphabet.",
         "What are the letters of the alphabet?", "Recite the alphabet."),
        "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z.",
        "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z",
    ),
    Fact(
        ("How many letters does the alphabet have?", "How many letters are in the alphabet?",
         "How many letters are there?", "The alphabet has how many letters?"),
        "The English alphabet has 26 letters.",
        "26 letters",
    ),
    Fact(
        ("What is the meaning of life?", "What's the meaning of life?",
         "Tell me the meaning of life.", "Do you know the meaning of life?"),
        "Some people say the meaning of life is 42.",
        "42",
    ),
    Fact(
        ("How many sides does a triangle have?", "How many sides has a triangle?",
         "A triangle has how many sides?", "Tell me how many sides a triangle has."),
        "A triangle has three sides.",
        "three sides",
    ),
    Fact(
        ("How many sides does a square have?", "How many sides has a square?",
         "A square has how many sides?", "Tell me how many sides a square has."),
        "A square has four sides.",
        "four sides",
    ),
    Fact(
        ("What do plants need?", "What does a plant need?", "What do plants need to grow?",
         "Tell me what plants need."),
        "Plants need water, air and light.",
        "water, air and light",
    ),
    Fact(
        ("Is the earth round?", "Is the Earth flat?", "What shape is the Earth?",
         "What is the shape of the earth?"),
        "The Earth is round.",
        "round",
    ),
    Fact(
        ("What is the sun?", "What's the sun?", "Is the sun a star?", "Explain the sun."),
        "The sun is a star.",
        "a star",
    ),
    Fact(
        ("What is the moon?", "What's the moon?", "Explain the moon.", "Tell me about the moon."),
        "The moon is a ball of rock that goes around the Earth.",
        "ball of rock",
    ),
    Fact(
        ("What is the largest country?", "Which country is the largest?",
         "What is the biggest country?", "Name the biggest country."),
        "The largest country is Russia.",
        "Russia",
    ),
)  # fmt: skip

INTENTS: tuple[Intent, ...] = (
    Intent(
        "greeting",
        ("Hello", "Hi", "Hey", "Hello there", "Hi there", "Hey there", "Hey you", "Greetings",
         "Good day", "Say hello", "Say hi", "Howdy", "Hello hello", "Hi hi", "Hiya",
         "Say hello to me", "Please say hello", "Hello again", "Hello, anybody there?",
         "Hello world", "Say hello in one sentence", "Hello, how can you help me"),
        "Hello! How can I help you?",
        greetable=False,
    ),
    Intent(
        "morning",
        ("Good morning", "Morning", "Good morning to you", "A very good morning"),
        "Good morning! How can I help you?",
    ),
    Intent(
        "evening",
        ("Good evening", "Evening", "Good evening to you", "A very good evening"),
        "Good evening! How can I help you?",
    ),
    Intent(
        "how-are-you",
        ("How are you?", "How are you doing?", "How do you do?", "How is it going?",
         "How's it going?", "Are you well?", "How are things?", "How do you feel?",
         "Are you okay?", "How is your day?", "What's up?", "How have you been?",
         "I hope you are well", "How are you feeling?", "You okay?", "How was your day?"),
        "I am fine, thank you! How can I help you?",
    ),
    Intent(
        "i-am-fine",
        ("I am fine", "I'm fine", "I am fine too", "I am good", "I'm good, thanks",
         "I am doing well", "I'm doing great", "I am happy", "I'm happy", "I am great",
         "I feel good", "I am okay", "I had a good day"),
        "I am glad to hear that!",
    ),
    Intent(
        "sad",
        ("I am sad", "I'm sad", "I feel bad", "I am tired", "I'm tired", "I am not well",
         "I feel sick", "I am lonely", "I had a bad day", "I am unhappy", "I feel sad",
         "I'm not happy"),
        "I am sorry to hear that. I hope you feel better soon.",
    ),
    Intent(
        "bored",
        ("I am bored", "I'm bored", "I am so bored", "What should we do?", "I have nothing to do",
         "This is boring"),
        "You could ask me for a story or a joke.",
    ),
    Intent(
        "thanks",
        ("Thank you", "Thanks", "Thank you very much", "Thanks a lot", "Many thanks",
         "Thank you so much", "Thx", "Thanks for your help", "Thank you for the answer",
         "That helped, thanks", "Great, thanks", "Okay, thank you", "I thank you", "Cheers"),
        "You are welcome!",
    ),
    Intent(
        "bye",
        ("Goodbye", "Bye", "Bye bye", "See you", "See you later", "See you soon",
         "See you tomorrow", "I have to go", "I must go now", "Good night", "Farewell",
         "Talk to you later", "Say goodbye", "That is all", "I am leaving now", "Have a nice day"),
        "Goodbye! Have a nice day.",
    ),
    Intent(
        "abilities",
        ("What can you do?", "What can I ask you?", "Help", "Help me", "I need help",
         "Can you help me?", "What do you know?", "What are you good at?", "How can you help me?",
         "What are your skills?", "What are you able to do?", "What can you help me with?",
         "What questions can you answer?", "Tell me what you can do", "Show me what you can do"),
        "I can chat, do simple sums, count to one hundred and answer a few questions.",
    ),
    Intent(
        "what-are-you",
        ("What are you?", "Are you a robot?", "Are you an AI?", "Are you human?",
         "Are you a person?", "Are you a human being?", "Are you real?", "Are you a machine?",
         "What kind of model are you?", "Which model are you?", "What model is this?",
         "Are you a bot?", "Are you a language model?", "Are you alive?"),
        "I am a tiny language model for demos.",
    ),
    Intent(
        "maker",
        ("Who made you?", "Who built you?", "Who created you?", "Who trained you?",
         "Where do you come from?", "How were you made?", "Who is your maker?",
         "How were you trained?", "Who is your creator?"),
        "I was trained by a small script as a demo.",
    ),
    Intent(
        "age",
        ("How old are you?", "What is your age?", "When were you born?",
         "When is your birthday?", "What's your age?", "Are you old?"),
        "I am a program, so I have no age.",
    ),
    Intent(
        "home",
        ("Where do you live?", "Where are you?", "Where is your home?", "Where are you now?",
         "In which city do you live?"),
        "I live inside this computer.",
    ),
    Intent(
        "compliment",
        ("You are great", "You are nice", "You are clever", "You are so smart", "Good job",
         "Well done", "You are the best", "I like you", "You are very helpful", "Nice work",
         "I love you", "You are funny", "Good answer", "Great answer", "You are awesome",
         "You're great", "You're smart"),
        "Thank you! That is very kind of you.",
    ),
    Intent(
        "insult",
        ("You are stupid", "You are bad", "I hate you", "You are dumb", "You are useless",
         "That is wrong", "You are wrong", "Bad answer", "You're stupid", "That was bad",
         "I do not like you", "You are boring"),
        "I am sorry. I am only a tiny model, but I do my best.",
    ),
    Intent(
        "likes",
        ("Do you like music?", "What do you like?", "Do you like me?", "What is your hobby?",
         "Do you have friends?", "Do you sleep?", "Do you eat?", "Do you have feelings?",
         "Do you like cats?", "Do you like dogs?", "What is your favourite colour?",
         "What is your favorite color?", "Do you have a favourite animal?", "Can you feel?"),
        "I am a program, so I have no feelings, but I like to chat.",
    ),
    Intent(
        "meet",
        ("Nice to meet you", "Pleased to meet you", "It is nice to meet you",
         "Glad to meet you", "Good to see you", "Nice to see you"),
        "It is nice to meet you too!",
    ),
    Intent(
        "okay",
        ("Okay", "Ok", "Alright", "I see", "Fine", "Good", "Great", "Cool", "Nice", "Wow",
         "Interesting", "Yes", "Sure", "All right", "Oh", "Very good", "Perfect", "Right"),
        "Good! What else can I do for you?",
        greetable=False,
    ),
    Intent(
        "no",
        ("No", "No thanks", "No, thank you", "Nothing", "Nope", "Never mind", "Nothing else",
         "Forget it", "Not now"),
        "All right. I am here if you need me.",
        greetable=False,
    ),
    Intent(
        "sorry",
        ("Sorry", "I am sorry", "I'm sorry", "My mistake", "Excuse me", "Pardon me",
         "I apologise", "Forgive me"),
        "No problem at all!",
    ),
    Intent(
        "question",
        ("Can I ask you something?", "I have a question", "May I ask a question?",
         "Can I ask you a question?", "I want to ask something", "Let us talk", "Let's chat",
         "Can we talk?", "I want to talk", "Talk to me", "Are you there?", "Can you hear me?",
         "Test", "This is a test", "Testing", "Anyone there?", "Is this working?"),
        "Yes, I am here. What would you like to know?",
    ),
    Intent(
        "languages",
        ("Which languages do you speak?", "What languages do you speak?", "Do you speak English?",
         "Do you speak German?", "Can you speak French?", "Do you speak Spanish?",
         "Which languages do you know?"),
        "I only speak English.",
    ),
    Intent(
        "empty",
        ("", "?", "...", "!", "Hm", "Hmm", "Um"),
        "How can I help you?",
        greetable=False,
    ),
)  # fmt: skip
