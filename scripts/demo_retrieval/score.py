"""How right a model is on triples, by category."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from .data import Triple


@dataclass(frozen=True)
class Mark:
    """A triple with the scores that its positive and its negative got."""

    triple: Triple
    related: float
    unrelated: float

    @property
    def right(self) -> bool:
        return self.related > self.unrelated


def share(marks: Sequence[Mark]) -> float:
    """The share of triples that are right."""
    return mean(mark.right for mark in marks)


def _groups(marks: Sequence[Mark]) -> dict[str, list[bool]]:
    groups: dict[str, list[bool]] = defaultdict(list)
    for mark in marks:
        groups[mark.triple.category].append(mark.right)
    for mark in marks:
        groups["reads alike" if mark.triple.hard else "any other"].append(mark.right)
    return groups


def format_share(marks: Sequence[Mark]) -> str:
    """Write the shares as one line: in all, by category, by how the negatives were chosen."""
    parts = (f"{name} {sum(right)}/{len(right)}" for name, right in _groups(marks).items())
    return f"{share(marks):.1%} ({', '.join(parts)})"


def format_scores(marks: Sequence[Mark]) -> str:
    """Write how the scores themselves look as one line."""
    related, unrelated = [m.related for m in marks], [m.unrelated for m in marks]
    return (
        f"related {mean(related):.2f} on average and {mean(s > 0.5 for s in related):.1%} above "
        f"0.5, unrelated {mean(unrelated):.2f} and {mean(s < 0.5 for s in unrelated):.1%} below"
    )


def print_wrong(marks: Sequence[Mark]) -> None:
    """Print what is not right."""
    for mark in marks:
        if not mark.right:
            one = mark.triple
            print(
                f"  wrong [{one.category}] {one.anchor!r}: {one.positive!r} {mark.related:.2f}, "
                f"{one.negative!r} {mark.unrelated:.2f}"
            )
