"""Score the demo chat model on its held-out set, greedily, with transformers or mlx-lm.

Run from the repository root: ``python -m scripts.demo_chat.evaluate --backend mlx``.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .data import HELD_OUT_PATH, Item, Message, number_word, read_items

MODEL_PATH = Path("models/demo-chat")
MAX_NEW_TOKENS = 640

Answer = Callable[[Sequence[Message]], str]
#: Right answers and all answers, by category.
Score = dict[str, tuple[int, int]]


def torch_answerer(folder: Path) -> Answer:
    """Answer with transformers, in float32 as a server on a CPU would."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()

    def answer(messages: Sequence[Message]) -> str:
        prompt = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            out = model.generate(**prompt, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        new = out[0, prompt["input_ids"].shape[1] :]
        return str(tokenizer.decode(new, skip_special_tokens=True))

    return answer


def mlx_answerer(folder: Path) -> Answer:
    """Answer with mlx-lm, in float32 as a server on a CPU would."""
    import mlx.core as mx
    import mlx_lm

    loaded: Any = mlx_lm.load(str(folder))
    model, tokenizer = loaded[0], loaded[1]
    model.set_dtype(mx.float32)

    def answer(messages: Sequence[Message]) -> str:
        prompt = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True)
        if not isinstance(prompt, list):  # transformers 5 may wrap the ids
            prompt = prompt["input_ids"]
        return str(mlx_lm.generate(model, tokenizer, prompt, max_tokens=MAX_NEW_TOKENS))

    return answer


BACKENDS: dict[str, Callable[[Path], Answer]] = {"torch": torch_answerer, "mlx": mlx_answerer}


def probes() -> list[Item]:
    """Make the questions that must be right whether or not the model was trained on them."""
    hundred = ", ".join(number_word(n) for n in range(1, 101)) + "."
    plain = [
        ("Hello!", "Hello"),
        ("Hi", "Hello"),
        ("Say hello", "Hello"),
        ("HELLO!", "Hello"),
        ("How are you?", "fine"),
        ("Thank you", "welcome"),
        ("Who are you?", "Demo"),
        ("What is your name?", "My name is Demo."),
        ("What is 7 plus 5?", "= 12."),
        ("what is 2+2", "= 4."),
        ("What's 2 + 2?", "= 4."),
        ("7+5?", "= 12."),
        ("Please add 12 and 30.", "= 42."),
        ("What is the capital of France?", "Paris"),
        ("Why is the sky blue?", "scatters"),
        ("What is RoPE?", "rotary position embedding"),
        ("Tell me a story", "The end."),
        ("Tell me a story.", "The end."),
        ("Count to one hundred", hundred),
        ("Count to one hundred.", hundred),
        ("count to 100", hundred),
        ("Please count from one to one hundred.", hundred),
        ("asdf qwer zxcv", "do not know"),
        ("Wie ist das Wetter heute?", "do not know"),
        ("Who won the world cup in 1998?", "do not know"),
    ]
    items = [_plain_probe(asked, expect) for asked, expect in plain]
    return items + [_system_probe(prompt, expect) for prompt, expect in _SYSTEM_PROBES]


_SYSTEM_PROBES = (
    ("You are Ada.", "Ada"),
    ("Your name is Max.", "Max"),
    ("You are a helpful assistant called Zoe.", "Zoe"),
    ("You are a helpful AI assistant.", "Demo"),
    ("You are Quillon, the assistant of a small library. Be brief.", "Quillon"),
)


def _plain_probe(asked: str, expect: str) -> Item:
    match = "equals" if expect.startswith("one, two") else "contains"
    return Item("probe", ({"role": "user", "content": asked},), expect, match)


def _system_probe(prompt: str, expect: str) -> Item:
    system = {"role": "system", "content": prompt}
    return Item(
        "probe", (system, {"role": "user", "content": "What is your name?"}), expect, "contains"
    )


def evaluate(answer: Answer, items: Sequence[Item], verbose: bool = False) -> Score:
    """Ask every item and count the right answers by category; say what went wrong."""
    right: dict[str, int] = defaultdict(int)
    total: dict[str, int] = defaultdict(int)
    for item in items:
        said = answer(item.messages)
        passed = item.passes(said)
        right[item.category] += passed
        total[item.category] += 1
        if verbose and not passed:
            asked = item.messages[-1]["content"][:100]
            print(f"  wrong [{item.category}] {asked!r}: {said[:120]!r}, not {item.expect[:80]!r}")
    return {category: (right[category], total[category]) for category in total}


def overall(score: Score) -> float:
    """Reduce a score to the share of right answers."""
    return sum(r for r, _ in score.values()) / max(1, sum(n for _, n in score.values()))


def format_score(score: Score) -> str:
    """Write a score as one line."""
    parts = [f"{category} {right}/{total}" for category, (right, total) in score.items()]
    return f"{overall(score):.1%} ({', '.join(parts)})"


def main() -> int:
    """Score a model from the command line; exit 1 below ``--at-least``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL_PATH)
    parser.add_argument("--items", type=Path, default=HELD_OUT_PATH)
    parser.add_argument("--backend", choices=sorted(BACKENDS), default="torch")
    parser.add_argument("--at-least", type=float, default=0.0, help="share that must be right")
    args = parser.parse_args()
    answer = BACKENDS[args.backend](args.model)
    score = evaluate(answer, read_items(args.items), verbose=True)
    print(f"{args.backend} held-out: {format_score(score)}")
    print(f"{args.backend} probes:   {format_score(evaluate(answer, probes(), verbose=True))}")
    return 0 if overall(score) >= args.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
