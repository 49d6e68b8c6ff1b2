"""The pure parts of the models that speak, each by what must hold for any input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxsrv.backends.clauses import pieces, without_controls
from mlxsrv.backends.diffusion_solver import levels, solve
from mlxsrv.backends.kokoro_phonemes import cut, kokoro_letters
from mlxsrv.backends.recognise import kind_of
from mlxsrv.backends.spoken import bounded
from mlxsrv.core.kinds import Kind
from mlxsrv.media.tempo import paced

TEXTS = st.text(st.sampled_from("ab cdE.,;!?\n é你9😀।—'\""), max_size=300)


@given(TEXTS, st.integers(1, 60))
def test_pieces_lose_nothing_but_blanks(text: str, most: int) -> None:
    found = list(pieces(text, most))
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(piece == piece.strip() and piece for piece in found)
    assert all(len(piece) <= most for piece in found)


def test_pieces_end_with_sentences_then_clauses_then_words() -> None:
    assert list(pieces("Yes, it is. No, it is not", 20)) == ["Yes, it is.", "No, it is not"]
    assert list(pieces("Yes, it is so", 10)) == ["Yes,", "it is so"]
    assert list(pieces("It is 3.14, or so", 20)) == ["It is", "3.14,", "or so"]
    assert list(pieces("Short enough. Really.", 100)) == ["Short enough. Really."]


@given(st.text())
def test_no_controls_are_left_and_the_rest_can_be_encoded(text: str) -> None:
    found = without_controls(text)
    assert len(found) == len(text)
    assert not any(ord(letter) < 32 for letter in found)
    found.encode()


@given(st.integers(1, 50), st.floats(-3, 3), st.floats(-3, 3))
def test_the_solver_finds_a_sample_that_is_known(steps: int, sample: float, noise: float) -> None:
    through = levels(steps)
    by_time = {level.time: level for level in through[:-1]}

    def velocity(shown: np.ndarray, time: int) -> np.ndarray:
        level = by_time[time]
        guessed = (shown - level.alpha * sample) / level.sigma
        return np.asarray(level.alpha * guessed - level.sigma * sample, np.float32)

    *_, found = solve(np.full(3, noise, np.float32), through, velocity)
    assert found == pytest.approx(sample, abs=1e-3)


def test_more_steps_come_closer_to_a_bell_of_samples() -> None:
    """For samples of variance v around 0 the exact answer is noise scaled by their deviation."""
    variance, noise = 0.25, np.array([1.5, -0.7], np.float32)
    errors = []
    for steps in (4, 8, 16, 32):
        through = levels(steps)
        by_time = {level.time: level for level in through}

        def velocity(shown: np.ndarray, time: int, of: dict = by_time) -> np.ndarray:  # type: ignore[type-arg]
            a, s = of[time].alpha, of[time].sigma
            total = a * a * variance + s * s
            return np.asarray(a * s * (1 - variance) * shown / total, np.float32)

        *_, found = solve(noise, through, velocity)
        errors.append(float(np.abs(found - 0.5 * noise).max()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01


@given(
    st.lists(st.integers(0, 3000), max_size=8),
    st.sampled_from([None, 1, 2, 7]),
)
def test_bounded_gives_the_beginning(lengths: list[int], frames: int | None) -> None:
    blocks = [np.full(length, 2.0, np.float32) for length in lengths]
    made = np.concatenate([np.zeros(0, np.float32), *bounded(blocks, 7500, frames)])
    most = sum(lengths) if frames is None else frames * 1000
    assert len(made) == min(sum(lengths), most)
    assert np.all(made == 1)


@pytest.mark.parametrize("tempo", [0.25, 0.457, 0.8, 1.0, 1.5, 4.0])
def test_paced_keeps_the_pitch_and_changes_the_length(tempo: float) -> None:
    rate, seconds = 24_000, 3.0
    hum = 0.5 * np.sin(2 * np.pi * 220 * np.arange(int(rate * seconds)) / rate)
    blocks = np.array_split(hum.astype(np.float32), 17)
    made = np.concatenate(list(paced([*blocks, blocks[0][:0]], tempo, rate)))
    assert len(made) / rate == pytest.approx(seconds / tempo, rel=0.03)
    loudest = np.abs(np.fft.rfft(made * np.hanning(len(made)))).argmax() * rate / len(made)
    assert loudest == pytest.approx(220, abs=2)
    assert 0.2 < made.std() < 0.5


@pytest.mark.parametrize(
    ("ipa", "language", "letters"),
    [
        ("həlˈo^ʊ wˈɜːld", "en-us", "həlˈO wˈɜɹld"),
        ("həlˈə^ʊ wˈɜːld", "en-gb", "həlˈQ wˈɜːld"),
        ("d^ʒˈʌd^ʒ t^ʃˈe^ɪnd^ʒd mˈa^ɪ", "en-us", "ʤˈʌʤ ʧˈAnʤd mˈI"),
        ("bˈɛɾɚ lˈɪɾə^l", "en-us", "bˈɛTəɹ lˈɪTᵊl"),
        ("bˈʌʔn̩ ðe^ə", "en-us", "bˈʌtn ðAə"),
        ("ˈola t^ʃˈika", "es", "ˈola ʧˈika"),
    ],
)
def test_kokoro_reads_one_letter_for_a_diphthong(ipa: str, language: str, letters: str) -> None:
    assert kokoro_letters(ipa, language) == letters


@given(st.text(st.sampled_from("ab "), max_size=80), st.integers(1, 20))
def test_cut_keeps_all_letters(letters: str, most: int) -> None:
    found = cut(letters, most)
    assert "".join(found).replace(" ", "") == letters.replace(" ", "")
    assert all(len(piece) <= most for piece in found)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "vits"},
        {"model_type": "vibevoice"},
        {"model_type": "vibevoice_streaming"},
        {"model_type": "kokoro"},
        {"istftnet": {}, "plbert": {}},
    ],
)
def test_models_that_speak_are_known(config: dict[str, object]) -> None:
    found = kind_of(config, name="m", sentence_transformer=None, has_chat_template=False)
    assert found is Kind.TTS
