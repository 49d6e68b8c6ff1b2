"""The demo model writes down what espeak-ng says, through the whole product on both backends."""

from __future__ import annotations

import io
import wave

import pytest

from mlxsrv.config.settings import ModelSettings
from tests.api.serving import Server, serving

pytest.importorskip("espeakng_loader")

from scripts.demo_whisper import evaluate, sentences
from scripts.demo_whisper.espeak import Espeak

SPOKEN = 20


def wav(espeak: Espeak, item: sentences.Item) -> bytes:
    spoken = espeak.say(item.text, item.voice)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, spoken.rate, 0, "NONE", ""))
        writer.writeframes(spoken.samples.tobytes())
    return file.getvalue()


def written(server: Server, sound: bytes) -> str:
    form = {"model": "whisper", "language": "en"}
    url = f"{server.url}/v1/audio/transcriptions"
    response = server.client.post(url, data=form, files={"file": ("a.wav", sound)})
    assert response.status_code == 200, response.text
    return str(response.json()["text"])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["mlx", "torch"])
def test_less_than_a_tenth_of_the_words_are_wrong(backend: str) -> None:
    espeak = Espeak()
    items = [i for i in sentences.read_items(sentences.HELD_OUT_PATH) if i.kind == "sentence"]
    with serving(backend, {"whisper": ModelSettings(path=str(evaluate.MODEL_PATH))}) as server:
        pairs = [(i.text, written(server, wav(espeak, i))) for i in items[:SPOKEN]]
    errors = evaluate.count_errors(pairs)
    assert len(pairs) == SPOKEN
    assert errors.wrong < 0.1 * errors.words, [pair for pair in pairs if pair[0] != pair[1]]
