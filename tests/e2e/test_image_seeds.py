"""The image examples of the first document, word for word but for the port."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.process import Process
from tests.e2e.test_seeds import at, shell

pytestmark = pytest.mark.slow

CURL_PNG = """curl http://localhost:8080/v1/images/generations \\
-H "Content-Type: application/json" \\
-d '{"prompt": "A photorealistic landscape at golden hour"}' \\
-o landscape.png"""

CURL_JSON = """curl http://localhost:8080/v1/images/generations \\
-H "Content-Type: application/json" \\
-d '{"prompt": "A landscape", "response_format": "b64_json"}'"""

CURL_CAKE_PNG = """curl http://localhost:8080/api/v1/image \\
-H "Content-Type: application/json" \\
-d '{
"image_args": {"prompt": "An old man at seaside"},
"response_format": "png"
}' -o output.png"""

CURL_CAKE_JSON = """curl http://localhost:8080/api/v1/image \\
-H "Content-Type: application/json" \\
-d '{
"image_args": {
"prompt": "An old man sitting on the chair at seaside",
"sd-num-samples": 1,
"image-seed": 2439383
}
}'"""

CURL_ROBOT = """curl -s http://localhost:8080/v1/images/generations \\
-H "Content-Type: application/json" \\
-d '{"prompt": "A rusty robot"}' \\
-o robot.png"""

OPENAI = """
from openai import OpenAI
client = OpenAI(base_url="http://localhost:8080/v1", api_key="unused")
# Image (b64_json for OpenAI client compatibility)
response = client.images.generate(
prompt="A rusty robot on a beach",
response_format="b64_json",
)
print(response.data[0].b64_json[:50])
"""

REQUESTS = """
import requests
# Image — raw PNG
resp = requests.post("http://localhost:8080/v1/images/generations",
json={"prompt": "A cat"})
with open("cat.png", "wb") as f:
    f.write(resp.content)
"""


def picture(content: bytes) -> Image.Image:
    """A PNG picture with something on it."""
    image = Image.open(io.BytesIO(content))
    image.load()
    assert (image.format, image.mode) == ("PNG", "RGB")
    assert np.ptp(np.asarray(image)) > 0  # of words it does not know, hardly more may be seen
    return image


def test_the_lines_that_want_files(demo: Process, tmp_path: Path) -> None:
    for line, name in ((CURL_PNG, "landscape"), (CURL_ROBOT, "robot"), (CURL_CAKE_PNG, "output")):
        shell(demo, line, folder=tmp_path)
        assert picture((tmp_path / f"{name}.png").read_bytes()).size == (128, 128)


def test_the_lines_that_want_json(demo: Process) -> None:
    answer = json.loads(shell(demo, CURL_JSON))
    assert answer["created"] > 1_700_000_000
    (data,) = answer["data"]
    picture(base64.b64decode(data["b64_json"]))
    first, again = (json.loads(shell(demo, CURL_CAKE_JSON)) for _ in range(2))
    assert list(first) == ["images"]
    assert first == again
    (content,) = first["images"]
    assert json.loads(picture(base64.b64decode(content)).info["mlxsrv"])["seed"] == 2439383


def test_the_python_snippets(
    demo: Process,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(at(demo, OPENAI), {})
    assert capsys.readouterr().out.startswith("iVBORw0KGgo")
    pytest.importorskip("requests")
    exec(at(demo, REQUESTS), {})
    picture((tmp_path / "cat.png").read_bytes())
    assert os.listdir() == ["cat.png"]
