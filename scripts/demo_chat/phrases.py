"""How things are asked: phrasings of every skill, as plain data.

``@`` stands for a name: unlike a format field it survives changes of case, and :mod:`.data` puts
the name in last.  ``{a}``, ``{b}`` and ``{w}`` are ordinary format fields.
"""

from __future__ import annotations

DEFAULT_NAME = "Demo"

UNKNOWN_REPLY = "I am sorry, I do not know that. I am only a tiny demo model."
HARD_SUM_REPLY = "I am sorry, I can only do simple sums with small numbers."
HARD_COUNT_REPLY = "I am sorry, I can only count up, and only to one hundred."
NO_NAME_REPLY = "I do not know your name yet. What is it?"
GREETING_REPLY = "Hello! How can I help you?"

# What may stand before small talk, before a question, and after either.
CHAT_PREFIXES = ("Hi, ", "Hello, ", "Hello! ", "Hey, ", "Hi there, ", "Hello @, ", "Ok, ", "Well, ")
CHAT_SUFFIXES = (" my friend", " today", " @", ", @", " please", " again", " dear", " now")
ASK_PREFIXES = (
    "Please tell me: ", "Tell me, ", "Hey, ", "Hello! ", "Quick question: ", "Question: ",
    "I want to know: ", "Can you answer this? ", "Hi, ", "Hello @, ", "Ok, ", "And ", "Now ",
)  # fmt: skip

ADD = (
    "What is {a} plus {b}?", "What is {a} + {b}?", "What's {a} + {b}?", "{a}+{b}?", "{a}+{b}",
    "{a} + {b} =", "{a}+{b}=", "{a} + {b}", "{a} plus {b}", "Please add {a} and {b}.",
    "Add {a} and {b}.", "Add {b} to {a}.", "Calculate {a} + {b}.", "Compute {a} plus {b}.",
    "How much is {a} plus {b}?", "How much is {a} + {b}?", "What is the sum of {a} and {b}?",
    "Sum of {a} and {b}?", "Can you add {a} and {b}?", "Tell me {a} plus {b}.",
    "What do I get if I add {a} and {b}?", "What does {a} + {b} equal?", "What is {a}+{b}?",
    "I have {a} apples and get {b} more. How many apples do I have?", "What's {a} plus {b}?",
    "What is {a} and {b}?", "What's {a}+{b}?", "{a} + {b} = ?", "Solve {a} + {b}.",
)  # fmt: skip
SUBTRACT = (
    "What is {a} minus {b}?", "What is {a} - {b}?", "What's {a} - {b}?", "{a}-{b}?", "{a}-{b}",
    "{a} - {b} =", "{a}-{b}=", "{a} - {b}", "{a} minus {b}", "Please subtract {b} from {a}.",
    "Subtract {b} from {a}.", "Take {b} away from {a}.", "Calculate {a} - {b}.",
    "Compute {a} minus {b}.", "How much is {a} minus {b}?", "How much is {a} - {b}?",
    "What is {a} less {b}?", "Can you subtract {b} from {a}?", "Tell me {a} minus {b}.",
    "What does {a} - {b} equal?", "What is {a}-{b}?", "What's {a} minus {b}?", "{a} - {b} = ?",
    "I have {a} apples and give away {b}. How many apples do I have?", "Solve {a} - {b}.",
)  # fmt: skip
MULTIPLY = (
    "What is {a} times {b}?", "What is {a} * {b}?", "What's {a} * {b}?", "{a}*{b}?", "{a}*{b}",
    "{a} * {b} =", "{a}*{b}=", "{a} * {b}", "{a} times {b}", "Please multiply {a} by {b}.",
    "Multiply {a} by {b}.", "Multiply {a} and {b}.", "Calculate {a} * {b}.",
    "Compute {a} times {b}.", "How much is {a} times {b}?", "How much is {a} * {b}?",
    "What is the product of {a} and {b}?", "Can you multiply {a} and {b}?", "{a} x {b}",
    "What is {a} x {b}?", "{a}x{b}?", "What is {a} multiplied by {b}?", "Tell me {a} times {b}.",
)  # fmt: skip
DIVIDE = (
    "What is {a} divided by {b}?", "What is {a} / {b}?", "What's {a} / {b}?", "{a}/{b}?",
    "{a}/{b}", "{a} / {b} =", "{a} / {b}", "{a} divided by {b}", "Please divide {a} by {b}.",
    "Divide {a} by {b}.", "Calculate {a} / {b}.", "How much is {a} divided by {b}?",
)  # fmt: skip

COUNT_TO = (
    "Count to {b}.", "Count to {b}", "Count to {b} please", "Please count to {b}.",
    "Can you count to {b}?", "Count up to {b}.", "Count aloud to {b}.", "Count out loud to {b}.",
    "I want you to count to {b}.", "Could you count to {b} for me?", "Count till {b}.",
    "Now count to {b}.", "Count from the start to {b}.", "Let us count to {b}.",
)  # fmt: skip
COUNT_RANGE = (
    "Count from {a} to {b}.", "Count from {a} to {b}", "Please count from {a} to {b}.",
    "Can you count from {a} to {b}?", "Count up from {a} to {b}.", "count {a} to {b}",
    "Say the numbers from {a} to {b}.", "List the numbers from {a} to {b}.",
    "Count from {a} up to {b}.", "Count aloud from {a} to {b}.", "Now count from {a} to {b}.",
    "Could you count from {a} to {b} please?", "Write the numbers from {a} to {b} in words.",
)  # fmt: skip

ASK_NAME = (
    "What is your name?", "What's your name?", "Your name?", "Tell me your name.",
    "Do you have a name?", "What should I call you?", "How should I call you?",
    "What are you called?", "May I know your name?", "What is your name please?",
    "Say your name.", "Please tell me your name.", "State your name.", "Can you tell me your name?",
    "And what is your name?", "So what's your name?", "What was your name again?",
)  # fmt: skip
ASK_WHO = (
    "Who are you?", "And who are you?", "Introduce yourself.", "Who am I talking to?",
    "Tell me who you are.", "Please introduce yourself.", "Tell me about yourself.",
    "So who are you?", "Who is there?", "Can you introduce yourself?", "Who are you really?",
    "Who is this?",
)  # fmt: skip
NAME_REPLY = "My name is @."
WHO_REPLY = "I am @, a tiny demo chat model."

INTRODUCE = (
    "My name is @.", "I am @.", "I'm @.", "Call me @.", "You can call me @.", "Hi, I am @.",
    "Hello, my name is @.", "My name's @.", "People call me @.", "Please call me @.",
    "I am called @.", "Hi there, I'm @.", "Hello! I am @.", "It is @.", "This is @.",
    "Hey, my name is @!", "Hello, I'm @, nice to meet you.", "By the way, my name is @.",
)  # fmt: skip
INTRODUCE_REPLY = "Nice to meet you, @!"
RECALL = (
    "What is my name?", "What's my name?", "Do you remember my name?", "Who am I?",
    "Do you know my name?", "Say my name.", "Tell me my name.", "What was my name again?",
    "Can you tell me my name?", "What did I say my name was?", "Please say my name.",
    "And what is my name?", "Now what is my name?", "Do you still know my name?",
)  # fmt: skip
RECALL_REPLY = "Your name is @."

REPEAT = (
    "Repeat after me: @", "Repeat: @", "Please repeat: @", "Repeat this: @", "Say it again: @",
    "Can you repeat this? @", "Repeat after me. @", "Repeat the words @", "Echo: @",
)  # fmt: skip
REPEAT_REPLY = "You said: @"

SYSTEM_NAMED = (
    "You are @.", "Your name is @.", "You are @, a helpful assistant.", "You are called @.",
    "You are a helpful assistant called @.", "You are a helpful assistant named @.",
    "You are an AI assistant named @.", "You are @, a friendly robot.", "Call yourself @.",
    "You are a chat model called @.", "The assistant's name is @.", "My assistant is called @.",
    "You're @.", "Your name: @", "Act as @.", "Name: @", "You are a friendly bot named @.",
    "You are @, an AI made for children.", "You go by the name @.", "You will be @ today.",
    "Please use the name @.", "You are known as @.", "Pretend that your name is @.",
    "From now on your name is @.", "You are the assistant @.", "I call you @.",
)  # fmt: skip
SYSTEM_PLAIN = (
    "You are a helpful AI assistant.", "You are a helpful assistant.", "Be brief.",
    "You are a friendly chat bot.", "Answer in English.", "Answer in one sentence.",
    "Be polite and friendly.", "Always tell the truth.", "Keep your answers short.",
    "You are an AI.", "You are an expert.", "You help people.", "Do not be rude.",
    "You are a helpful, honest and harmless assistant.", "Use simple words.",
    "Answer the questions of the user.", "You are a large language model.",
    "You are a teacher.", "You are a coding assistant.", "Think step by step.",
    "The user is a child.", "Today is Monday.", "Be kind.", "You are very clever.",
    "If you do not know something, say so.", "Respond concisely.", "Write plain text.",
    "You are a concise assistant.", "You are a bot in a shop.", "Never use emoji.",
)  # fmt: skip

NOUNS = (
    "table", "river", "music", "history", "physics", "chemistry", "football", "tennis", "paper",
    "glass", "bread", "cheese", "pizza", "pasta", "car", "train", "plane", "ship", "house",
    "bridge", "tower", "forest", "desert", "island", "volcano", "storm", "rain", "wind", "gold",
    "silver", "iron", "money", "bank", "school", "teacher", "doctor", "king", "queen", "war",
    "peace", "love", "dream", "mirror", "window", "door", "phone", "camera", "book", "poem",
    "song", "piano", "guitar", "dance", "painting", "robot", "rocket", "galaxy", "star",
    "comet", "dinosaur", "tiger", "giraffe", "zebra", "monkey", "rabbit", "mouse", "eagle",
    "shark", "whale", "penguin", "unicorn", "dragon", "recipe", "soup", "tea", "coffee", "sugar",
    "salt", "knife", "stock market", "blockchain", "database", "compiler", "quantum computer",
    "climate", "election", "president", "law", "tax", "weather", "engine", "battery", "magnet",
    "equation", "theorem", "virus", "heart", "brain", "shoe", "hat", "dress", "stone", "flower",
)  # fmt: skip
OTHER_COUNTRIES = (
    "Peru", "Kenya", "Korea", "Vietnam", "Chile", "Cuba", "Nepal", "Ghana", "Iran", "Iraq",
    "Hungary", "Romania", "Iceland", "Morocco", "Thailand", "Argentina", "Ukraine", "Scotland",
)  # fmt: skip
UNKNOWN_QUESTIONS = (
    "Who is the president of {w}?", "What is {w}?", "Who is {w}?", "What is a {w}?",
    "Translate {w} into French.", "Write a poem about {w}.", "How do I make {w}?",
    "Where can I buy {w}?", "How far is it to {w}?", "What is the price of {w}?",
    "Who invented the {w}?", "Write a program about {w}.", "Explain {w}.", "Explain {w} to me.",
    "What is the weather in {w}?", "How do you spell {w}?", "When did {w} begin?",
    "Why is {w} important?", "How does a {w} work?", "Who won the {w}?", "What is the best {w}?",
    "Tell me about {w}.", "Tell me the history of {w}.", "Tell me a story about {w}.",
    "What do you think about {w}?", "How many people live in {w}?", "Which {w} is better?",
    "Should I buy a {w}?", "Write an essay about {w}.", "Summarise {w}.", "How big is {w}?",
    "How old is {w}?", "What is the difference between {w} and {v}?", "Who discovered {w}?",
    "Give me a recipe for {w}.", "How heavy is a {w}?", "Is {w} dangerous?", "Define {w}.",
    "Why is the {w} {v}?", "What does {w} mean?", "Play {w}.", "Open {w}.", "Find me a {w}.",
    "Write code for a {w}.", "List ten kinds of {w}.", "What is the {w} of {v}?",
    "Can you fix my {w}?", "How long does {w} take?", "Where is {w}?", "When is {w}?",
    "Draw a {w}.", "Sing a song about {w}.", "What happened in {w}?", "Compare {w} and {v}.",
    "What is your opinion on {w}?", "Do you know {w}?", "Have you heard of {w}?", "{w}",
    "I like {w}.", "My {w} is broken.", "I want a {w}.", "We need {w} and {v}.", "{w} {v}",
    "Who won the {w} cup in {n}?", "What happened in {n}?", "Who was king of {w} in {n}?",
    "Who won the {w} in {n}?", "Convert {n} miles to {w}.", "Tell me {n} facts about {w}.",
    "What year did {w} begin, {n} or later?", "Is {n} a prime number?", "{n} {w}", "{n}",
    "Give me {n} names for a {w}.", "How much do {n} {w}s cost?", "What is {n} in {w}?",
    "Which planet is {w}?", "Name all {w}.", "How many {w} are there?", "{w} or {v}?",
)  # fmt: skip
FOREIGN = (
    "Bonjour, comment ça va ?", "Quelle heure est-il ?", "Je ne parle pas anglais.",
    "Où est la gare ?", "Comment tu t'appelles ?", "Qu'est-ce que c'est ?", "Merci beaucoup.",
    "Guten Tag, wie geht es Ihnen?", "Wie heißt du?", "Wo ist der Bahnhof?", "Was ist das?",
    "Ich möchte ein Bier.", "Können Sie mir helfen?", "Das Wetter ist schön.", "Wie spät ist es?",
    "¿Cómo estás?", "¿Dónde está la biblioteca?", "No hablo inglés.", "¿Qué hora es?",
    "Me gusta la música.", "Buongiorno, come stai?", "Dove si trova il museo?", "Grazie mille.",
    "Bom dia, tudo bem?", "Onde fica a praia?", "Hoe gaat het met je?", "Waar is het station?",
    "Hur mår du?", "Var ligger stationen?", "Gdzie jest dworzec?", "Jak się masz?",
    "Как дела?", "Где находится музей?", "Привет, мир!", "Что это такое?", "Мне нравится чай.",
    "你好，你叫什么名字？", "今天天气怎么样？", "我不会说英语。", "こんにちは、お元気ですか？",
    "これは何ですか？", "駅はどこですか？", "안녕하세요?", "이것은 무엇입니까?", "مرحبا كيف حالك؟",
    "ما هذا؟", "שלום, מה שלומך?", "नमस्ते, आप कैसे हैं?", "Merhaba, nasılsın?", "Γειά σου Κόσμε",
    "Xin chào, bạn khỏe không?", "Selamat pagi, apa kabar?", "Habari yako?", "Salve, quid agis?",
)  # fmt: skip
SNIPPETS = (
    "def {w}(x):\n    return x + 1", "for i in range(10): print({w})",
    '{{"{w}": 1, "{v}": [2, 3]}}',
    "SELECT * FROM {w} WHERE {v} = 3;", "https://www.{w}.com/{v}", "<p>{w} {v}</p>",
    "import {w}\nprint({w}.{v}())", "{w}@{v}.org", "# {w}\n\n- {v}\n- {w}", "$ {w} --{v}",
    "int main() {{ {w}(); return 0; }}", "Error: {w} is not {v}", "{w}, {v}, {w}", "x = {w} * {v}",
)  # fmt: skip
LONG_TASKS = (
    "Summarise this text:", "Summarize this:", "What is this?", "Explain this text:",
    "Translate this text:", "Correct this:", "", "", "Read this:", "Continue:",
)  # fmt: skip
REAL_NAMES = (
    "Ada", "Max", "Zoe", "Lena", "Bob", "Alice", "Tom", "Anna", "Paul", "Maria", "John", "Emma",
    "Noah", "Mia", "Leo", "Sam", "Kate", "Lucy", "Jack", "Nina", "Oscar", "Ruth", "Ivan", "Olga",
    "Hugo", "Clara", "Felix", "Ella", "Adam", "Eva", "Peter", "Sara", "David", "Laura", "Simon",
    "Julia", "Mark", "Nora", "Alex", "Robin", "Charlie", "Sophie", "George", "Helen", "Victor",
    "Jarvis", "Nova", "Pixel", "Echo", "Atlas", "Luna", "Orion", "Sunny", "Captain Nemo",
    "José", "Zoë", "René", "Søren", "Björn", "Mary Ann", "Robo", "Buddy", "Iris", "Otto",
)  # fmt: skip
