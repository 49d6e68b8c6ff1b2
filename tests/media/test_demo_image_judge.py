"""The judge of the demo image model's pictures, by drawings that are right and wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from scripts.demo_image import evaluate
from scripts.demo_image.draw import draw
from scripts.demo_image.judge import judge
from scripts.demo_image.scenes import (
    COLOURS,
    POSITIONS,
    SIZES,
    Figure,
    Scene,
    draw_scene,
    is_held_out,
)
from scripts.demo_image.shapes import SHAPES

HELD_OUT = Path(__file__).parents[1] / "data" / "demo_image_heldout.jsonl"
SCENE = Scene("blue", (Figure("circle", "red", "medium", "left"),))


@pytest.mark.parametrize("size", [(128, 128), (96, 160)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_drawing_shows_what_it_was_drawn_from(shape: str, size: tuple[int, int]) -> None:
    rng = Random(f"{shape} {size}")
    for extent in SIZES:
        for position in POSITIONS:
            colour, background = rng.sample(list(COLOURS), 2)
            scene = Scene(background, (Figure(shape, colour, extent, position),))
            assert judge(draw(scene, *size, rng), scene) == [], scene


def test_drawings_of_two_shapes_show_both() -> None:
    rng = Random(0)
    for _ in range(40):
        scene = draw_scene(rng, pairs=1)
        assert judge(draw(scene, 128, 128, rng), scene) == [], scene


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        *(({"shape": s}, f"{s} instead of circle") for s in SHAPES if s != "circle"),
        *(({"colour": c}, f"{c} instead of red") for c in COLOURS if c not in ("red", "blue")),
        *(({"size": s}, f"{s} instead of medium") for s in ("small", "large")),
        *(({"position": p}, "the circle is not at the left") for p in POSITIONS if p != "left"),
    ],
)
def test_a_wrong_figure_is_told(change: dict[str, str], fault: str) -> None:
    figure = replace(SCENE.figures[0], **change)
    wrong = Scene("blue", (figure,))
    assert fault in judge(draw(wrong, 128, 128), SCENE)


@pytest.mark.parametrize("background", [c for c in COLOURS if c not in ("blue", "red")])
def test_a_wrong_background_is_told(background: str) -> None:
    wrong = Scene(background, SCENE.figures)
    assert f"{background} background" in judge(draw(wrong, 128, 128), SCENE)


def test_a_blank_picture_is_told() -> None:
    assert judge(draw(Scene("blue", ()), 128, 128), SCENE) == ["blank"]


def test_a_second_shape_that_was_not_asked_for_is_told() -> None:
    more = Scene("blue", (*SCENE.figures, Figure("star", "white", "small", "right")))
    assert "more than what was asked for" in judge(draw(more, 128, 128), SCENE)


def test_the_training_never_shows_a_held_out_combination() -> None:
    rng = Random(0)
    held_out = {
        (item.scene.figures[0].shape, item.scene.figures[0].colour, item.scene.background)
        for item in evaluate.read_items(HELD_OUT)
    }
    assert all(is_held_out(*combination) for combination in held_out)
    for _ in range(10_000):
        scene = draw_scene(rng, pairs=0.15)
        for figure in scene.figures:
            assert (figure.shape, figure.colour, scene.background) not in held_out


def test_the_held_out_prompts_are_those_that_the_script_makes() -> None:
    items = evaluate.read_items(HELD_OUT)
    assert items == evaluate.make_items()
    assert len({item.scene for item in items}) == len(items) == 100
