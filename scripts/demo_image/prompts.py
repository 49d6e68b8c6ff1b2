"""Say in words what a scene shows, in many ways."""

from __future__ import annotations

from random import Random

from .scenes import Figure, Scene

#: The words for a thing; the first is the usual one.
_COLOURS = {"purple": ("purple", "violet"), "gray": ("gray", "grey"), "cyan": ("cyan", "turquoise")}
_SHAPES = {
    "circle": ("circle", "disc", "disk", "dot", "ball"),
    "square": ("square", "box"),
    "diamond": ("diamond", "rhombus"),
    "ring": ("ring", "donut"),
    "cross": ("cross", "plus sign"),
}
_SIZES = {
    "small": ("small", "little", "tiny"),
    "medium": ("", "", "", "", "medium", "medium-sized"),
    "large": ("large", "big", "huge"),
}
_SIDES = {
    "center": ("in the center", "in the middle", "at the center", "in the centre", "centered"),
    "left": ("on the left", "on the left side", "at the left", "to the left", "left"),
    "right": ("on the right", "on the right side", "at the right", "to the right", "right"),
    "top": ("at the top", "on the top", "near the top", "top"),
    "bottom": ("at the bottom", "on the bottom", "near the bottom", "bottom"),
}
_CORNERS = (
    "in the {} corner",
    "at the {}",
    "in the {}",
    "at the {} corner",
    "in the {} corner of the picture",
    "{}",
)
_GROUNDS = (
    "on a {} background",
    "on a {} background",
    "on a {} background",
    "on {}",
    "with a {} background",
    "over a {} background",
    "against a {} background",
    "in front of a {} background",
)
_OPENINGS = (
    "a picture of",
    "an image of",
    "a drawing of",
    "draw",
    "paint",
    "show me",
    "make a picture of",
    "generate an image of",
    "please draw",
    "i want",
    "create",
)
#: The background that is meant where none is named.
_UNSAID = "white"


def _usual(rng: Random, words: tuple[str, ...]) -> str:
    return words[0] if rng.random() < 0.6 else rng.choice(words)


def _colour(rng: Random, colour: str) -> str:
    return _usual(rng, _COLOURS.get(colour, (colour,)))


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _noun(rng: Random, figure: Figure) -> str:
    """Name a figure without an article and place: ``small red circle``."""
    shape = _usual(rng, _SHAPES.get(figure.shape, (figure.shape,)))
    size, colour = rng.choice(_SIZES[figure.size]), _colour(rng, figure.colour)
    return " ".join(word for word in (size, colour, shape) if word)


def _place(rng: Random, position: str) -> str:
    """Say where; of the center mostly nothing."""
    if position == "center":
        return "" if rng.random() < 0.75 else rng.choice(_SIDES[position])
    if position in _SIDES:
        return rng.choice(_SIDES[position])
    if rng.random() < 0.2:
        position = position.replace("top", "upper").replace("bottom", "lower")
    if rng.random() < 0.2:
        position = position.replace(" ", "-")
    return rng.choice(_CORNERS).format(position)


def _ground(rng: Random, background: str) -> str:
    words = rng.choice(_GROUNDS)
    colour = _colour(rng, background)
    return words.replace("a {}", _article(colour)).format(colour)


def _single(rng: Random, scene: Scene) -> str:
    figure = scene.figures[0]
    noun, place = _noun(rng, figure), _place(rng, figure.position)
    ground, colour = _ground(rng, scene.background), _colour(rng, scene.background)
    what = f"{_article(noun)} {place}".strip()
    roll = rng.random()
    if scene.background == _UNSAID and roll < 0.4:
        return what
    if roll < 0.55:
        return f"{what}{',' if place and rng.random() < 0.3 else ''} {ground}"
    if roll < 0.7:
        return f"{_article(noun)} {ground} {place}".strip()
    if roll < 0.85:
        parts = [noun, f"{colour} background", place]
        return ", ".join(part for part in parts if part)
    if roll < 0.93:
        return f"{_article(colour)} background with {what}"
    return f"{ground}, {what}" if ground.startswith("on") else f"{what} {ground}"


def _together(rng: Random, first: str, second: str, beside: bool) -> str:
    """Say how two figures lie, the first one left of the second or above it."""
    if beside:
        return rng.choice(
            (
                f"{first} and {second}",
                f"{first} and {second}",
                f"{first} next to {second}",
                f"{first} to the left of {second}",
                f"{first} left of {second}",
                f"{second} to the right of {first}",
                f"{first} on the left and {second} on the right",
            )
        )
    return rng.choice(
        (
            f"{first} above {second}",
            f"{second} below {first}",
            f"{second} under {first}",
            f"{first} over {second}",
            f"{first} at the top and {second} at the bottom",
        )
    )


def _pair(rng: Random, scene: Scene) -> str:
    first, second = (_article(_noun(rng, figure)) for figure in scene.figures)
    words = _together(rng, first, second, scene.figures[0].position == "left")
    if scene.background == _UNSAID and rng.random() < 0.4:
        return words
    if rng.random() < 0.2:
        return f"{words}, {_colour(rng, scene.background)} background"
    return f"{words} {_ground(rng, scene.background)}"


def _dress(rng: Random, words: str) -> str:
    """Add what people add: an opening, a capital, a full stop; or leave articles out."""
    if rng.random() < 0.2 and not words.startswith("on "):
        opening = rng.choice(_OPENINGS)
        words = f"{opening} {words if words.startswith(('a ', 'an ')) else _article(words)}"
    elif rng.random() < 0.08 and words.startswith(("a ", "an ")):
        words = words.split(" ", 1)[1]
    if rng.random() < 0.15:
        words = words[0].upper() + words[1:]
    return words + ("." if rng.random() < 0.1 else "")


def describe(rng: Random, scene: Scene) -> str:
    """Describe a scene of one figure or two."""
    return _dress(rng, _single(rng, scene) if len(scene.figures) == 1 else _pair(rng, scene))


def plain(scene: Scene) -> str:
    """Describe a scene of one figure in the usual words: ``a red circle on a blue background``."""
    figure = scene.figures[0]
    size = "" if figure.size == "medium" else f"{figure.size} "
    words = _SIDES.get(figure.position, _CORNERS)[0].format(figure.position)
    place = "" if figure.position == "center" else f" {words}"
    noun = _article(f"{size}{figure.colour} {figure.shape}")
    return f"{noun}{place} on {_article(scene.background)} background"
