"""What a server saves when it has seen the beginning of a prompt before."""

from __future__ import annotations

from statistics import median

from mlxsrv.bench.answer import Answer
from mlxsrv.bench.metrics import ERRORS, MILLI, Metric, Sample
from mlxsrv.bench.scenarios.base import Round, Scenario
from mlxsrv.bench.subjects import Subject, Work
from mlxsrv.bench.words import Message, Speaker

TURNS = 6
USER_TOKENS = 20
ANSWER_TOKENS = 180
SYSTEM_TOKENS = 1024
WARM_REQUESTS = 3
FIRST_TOKEN = Work(4)


async def multi_turn(subject: Subject, turn: Round) -> Sample:
    speaker = turn.speaker()
    cold = await subject.ask(_foreign_chat(speaker), FIRST_TOKEN)
    chat: list[Message] = []
    for _ in range(TURNS - 1):
        chat.append(speaker.user(USER_TOKENS))
        answer = await subject.ask(chat, Work(ANSWER_TOKENS))
        if answer.error is not None:
            return {Metric("", ERRORS): 1.0}
        chat.append(Message("assistant", answer.text))
    warm = await subject.ask([*chat, speaker.user(USER_TOKENS)], FIRST_TOKEN)
    return _compared(f"turn {TURNS}", [cold], [warm])


def _foreign_chat(speaker: Speaker) -> list[Message]:
    """A chat as long as ours that nobody has had."""
    chat = []
    for _ in range(TURNS - 1):
        answer = Message("assistant", speaker.text(ANSWER_TOKENS))
        chat += [speaker.user(USER_TOKENS), answer]
    return [*chat, speaker.user(USER_TOKENS)]


async def shared_prefix(subject: Subject, turn: Round) -> Sample:
    speaker = turn.speaker()
    system = Message("system", speaker.text(SYSTEM_TOKENS))
    answers = [
        await subject.ask([system, speaker.user(USER_TOKENS)], FIRST_TOKEN)
        for _ in range(1 + WARM_REQUESTS)
    ]
    return _compared("warm", answers[:1], answers[1:])


def _compared(name: str, cold: list[Answer], warm: list[Answer]) -> Sample:
    errors = [answer for answer in cold + warm if answer.error or not answer.arrivals]
    sample = {Metric("", ERRORS): float(len(errors))}
    if errors:
        return sample
    before = median(answer.first for answer in cold)
    after = median(answer.first for answer in warm)
    return sample | {
        Metric("cold", "first token", "ms"): MILLI * before,
        Metric(name, "first token", "ms"): MILLI * after,
        Metric(name, "of cold"): after / before,
        Metric(name, "cached tokens", "", "more"): median(answer.cached for answer in warm),
    }


MULTI_TURN = Scenario(
    "multi-turn",
    f"turn {TURNS} of a chat (user {USER_TOKENS}, answer {ANSWER_TOKENS} tokens a turn)",
    ("small",),
    running=multi_turn,
)
SHARED_PREFIX = Scenario(
    "shared-prefix",
    f"requests that share a system prompt of {SYSTEM_TOKENS} tokens",
    ("small",),
    running=shared_prefix,
)
