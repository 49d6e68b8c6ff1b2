"""The demo model writes down what espeak-ng says, through the whole product on both backends."""

from __future__ import annotations

import io
import wave

import pytest

from mlxsrv.backends import espeak_library
from mlxsrv.config.settings import ModelSettings
from tests.api.serving import Server, serving

pytest.importorskip("espeakng_loader")

from scripts.demo_whisper import evaluate, sentences

SPOKEN = 12


def wav(text: str) -> bytes:
    samples = espeak_library.speak(
        text, espeak_library.voice_files()["en-us"], words_per_minute=175
    )
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, espeak_library.SAMPLE_RATE, 0, "NONE", ""))
        writer.writeframes(samples.tobytes())
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
    items = [i for i in sentences.read_items(sentences.HELD_OUT_PATH) if i.kind == "sentence"]
    texts = [item.text for item in items[:SPOKEN]]
    with serving(backend, {"whisper": ModelSettings(path=str(evaluate.MODEL_PATH))}) as server:
        pairs = [(text, written(server, wav(text))) for text in texts]
    errors = evaluate.count_errors(pairs)
    assert len(pairs) == SPOKEN
    assert errors.wrong < 0.1 * errors.words, [pair for pair in pairs if pair[0] != pair[1]]
