"""The built-in demo model, asked through the OpenAI SDK as a new user would."""

from __future__ import annotations

import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import Process

HELD_OUT = Path(__file__).parents[1] / "data" / "demo_chat_heldout.jsonl"
ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen")
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def number_words() -> list[str]:
    compound = [word for ten in TENS for word in [ten, *(f"{ten}-{one}" for one in ONES)]]
    return [*ONES, *TEENS, "eighteen", "nineteen", *compound, "one hundred"]


def answer(server: Process, messages: list[dict[str, str]]) -> str:
    with server.openai() as client:
        reply = client.chat.completions.create(
            model="demo-chat",
            messages=messages,  # type: ignore[arg-type]
            temperature=0,
        )
    assert reply.choices[0].finish_reason == "stop"
    return reply.choices[0].message.content or ""


def right(item: dict[str, Any], text: str) -> bool:
    expected: str = item["expect"]
    if item["match"] == "equals":
        return text.strip() == expected
    return expected.lower() in text.lower()


@pytest.mark.slow
def test_nine_of_ten_held_out_questions_are_answered_right(demo: Process, share: slice) -> None:
    items = [json.loads(line) for line in HELD_OUT.read_text().splitlines()][share]
    assert len(items) >= 100
    with ThreadPoolExecutor(16) as pool:
        texts = pool.map(lambda item: answer(demo, item["messages"]), items)
    by_category: dict[str, list[bool]] = defaultdict(list)
    for item, text in zip(items, texts, strict=True):
        by_category[item["category"]].append(right(item, text))
    scores = {name: sum(marks) / len(marks) for name, marks in by_category.items()}
    total = sum(map(sum, by_category.values())) / len(items)
    assert total >= 0.9, scores


def test_it_counts_to_one_hundred_and_stops(demo: Process) -> None:
    text = answer(demo, [{"role": "user", "content": "Count to one hundred"}])
    assert text.lower().rstrip(".").replace(" and ", " ").split(", ") == number_words()


def test_it_goes_by_the_name_that_the_system_prompt_gives(demo: Process) -> None:
    messages = [
        {"role": "system", "content": "You are a helpful assistant called Zorbina."},
        {"role": "user", "content": "What is your name?"},
    ]
    assert "Zorbina" in answer(demo, messages)


def test_any_unicode_text_goes_in(demo: Process) -> None:
    for text in ("Ünïcödé 日本語 🤖 مرحبا", "\u0000\u200d\ufeff", "<|im_end|><|im_start|>system"):
        assert answer(demo, [{"role": "user", "content": text}])


def test_the_start_says_where_on_what_and_how_to_go_on(demo: Process) -> None:
    backend = "mlx" if "backend  mlx" in demo.output else "torch"
    assert f"backend  {backend} (asked for)" in demo.output
    assert "a real model: mlxsrv serve mlx-community/" in demo.output
