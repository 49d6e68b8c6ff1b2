"""Further ways in: the Node.js SDK, and a model from the user's hub cache without a network."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.e2e.process import Process, serve
from tests.tiny_models import build

pytestmark = pytest.mark.slow

NODE_SDK = """
import OpenAI from 'openai';

const client = new OpenAI({
  baseURL: 'http://localhost:8080/v1',
  apiKey: 'sk-your-secret-key',
});

const response = await client.chat.completions
  .create({
    model: 'my-fine-tuned-model',
    messages: [
      { role: 'user', content: 'Hello!' }
    ],
  });

console.log(response.choices[0].message.content);

const stream = await client.chat.completions.create({
  model: 'my-fine-tuned-model',
  messages: [{ role: 'user', content: 'What is 2 plus 2?' }],
  stream: true,
});
let text = '';
for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? '';
console.log(text);
"""


@pytest.fixture(scope="session")
def node_project(pytestconfig: pytest.Config) -> Path:
    """A folder with the SDK from npm, kept between runs."""
    if shutil.which("npm") is None:
        pytest.skip("Node.js is not installed")
    folder = Path(pytestconfig.cache.mkdir("node"))
    if not (folder / "node_modules" / "openai").exists():
        done = subprocess.run(
            ["npm", "install", "--silent", "--no-audit", "--no-fund", "openai@7"],
            cwd=folder,
            capture_output=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip("npm can't install the SDK here")
    return folder


def test_the_node_sdk_chats(demo_on_torch: Process, node_project: Path) -> None:
    script = node_project / "chat.mjs"
    script.write_text(NODE_SDK.replace("http://localhost:8080", demo_on_torch.url))
    done = subprocess.run(["node", script], capture_output=True, text=True, check=True)
    answer, streamed = done.stdout.splitlines()
    assert "Hello" in answer
    assert "4" in streamed


@pytest.mark.slow
def test_a_hub_id_in_the_users_cache_is_served_without_a_network(tmp_path: Path) -> None:
    repo = tmp_path / ".cache/huggingface/hub/models--someone--tiny-model"
    build(repo / "snapshots" / ("0" * 40))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)
    variables = {"HF_HOME": str(tmp_path / ".cache/huggingface")}
    with serve(tmp_path, "someone/tiny-model", "--backend", "torch", **variables) as server:
        assert server.urls
        listed = httpx.get(f"{server.url}/v1/models/someone/tiny-model").json()
        assert listed["state"] == "idle"
        body = {"model": "someone/tiny-model", "prompt": "hello", "max_tokens": 5}
        assert httpx.post(f"{server.url}/v1/completions", json=body).status_code == 200


def test_a_model_that_can_not_be_reached_ends_the_start_with_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="mlxsrv pull someone/unknown"),
        serve(tmp_path, "someone/unknown", "--backend", "torch"),
    ):
        pass
