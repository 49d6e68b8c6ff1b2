"""The examples of the documents this API comes from, word for word but for port and model."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest
from openai import OpenAI

from mlxsrv.media.audio_encode import wav_bytes
from tests.e2e.process import Process, serve

pytestmark = pytest.mark.slow

CURL_CHAT = """curl -s http://localhost:8080/v1/chat/completions \\
-H "Content-Type: application/json" \\
-d '{
"messages": [
{"role": "system", "content": "You are a helpful AI assistant."},
{"role": "user", "content": "Why is the sky blue?"}
],
"stream": true,
"max_tokens": 4096
}'"""

CURL_WITH_KEY = """curl -s http://localhost:8080/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer sk-your-secret-key" \\
  -d '{
    "model": "my-fine-tuned-model",
    "messages": [
      {"role": "system", "content": "You are a helpful assistant."},
      {"role": "user", "content": "Hello!"}
    ],
    "temperature": 0.7,
    "max_tokens": 150
  }'"""

CURL_ROPE = """curl -s -N http://127.0.0.1:8080/v1/chat/completions \\
-H "Authorization: Bearer $API_KEY" -H "Content-Type: application/json" \\
-d '{"model":"Qwen3-4B","messages":[{"role":"user","content":"Hi"}],"stream":true}'"""

CURL_EMBEDDING = """curl -s http://localhost:8080/v1/embeddings \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer sk-your-secret-key" \\
  -d '{
    "model": "text-embedding-model",
    "input": "The quick brown fox jumps over the lazy dog"
  }'"""

CURL_ROPE_EMBEDDING = """curl -s http://127.0.0.1:8080/v1/embeddings \\
-H "Authorization: Bearer $API_KEY" -H "Content-Type: application/json" \\
-d '{"model":"my-embed-model","input":["hello world","second doc"]}'"""

CURL_INFERENCE = """curl -s http://127.0.0.1:8082/inference \\
-F "file=@audio.wav" \\
-F "language=zh" \\
-F "response_format=json"
"""

NODE = """
const resp = await fetch("http://127.0.0.1:8080/v1/chat/completions", {
method: "POST",
headers: { "Content-Type": "application/json" },
body: JSON.stringify({
model: "gemma-4-e4b",
messages: [{ role: "user", content: "Hello" }],
max_tokens: 256,
}),
});
const data = await resp.json();
console.log(data.choices[0].message.content);
"""

CONFIG = """
[api]
enabled = true
address = "127.0.0.1:0"
api_key = "sk-your-secret-key"
require_auth = true
max_requests_per_minute = 60
max_tokens_per_minute = 100000
cors_enabled = true
cors_origins = ["http://localhost:3000"]

[api.models.my-fine-tuned-model]
path = "demo"
type = "chat"
context_length = 2048
default_temperature = 0.7

[api.models.my-embedding-model]
path = "demo"
type = "embedding"
dimensions = 48
preload = false
"""


def at(server: Process, text: str) -> str:
    port = server.url.rpartition(":")[2]
    return text.replace(":8080", f":{port}").replace(":8082", f":{port}")


def shell(server: Process, line: str, *, folder: Path | None = None, **variables: str) -> str:
    done = subprocess.run(
        ["bash", "-c", at(server, line)],
        capture_output=True,
        text=True,
        env=variables,
        check=True,
        cwd=folder,
    )
    return done.stdout


def events(text: str) -> list[dict[str, object]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_the_streaming_line_of_the_first_seed(demo: Process) -> None:
    chunks = events(shell(demo, CURL_CHAT))
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]  # type: ignore[index]
    assert deltas[0]["role"] == "assistant"
    assert len("".join(delta.get("content") or "" for delta in deltas)) > 10


def test_the_python_snippet_of_the_first_seed(
    demo: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    client = OpenAI(base_url=f"{demo.url}/v1", api_key="unused")
    response = client.chat.completions.create(
        model="any",
        messages=[{"role": "user", "content": "Hello!"}],
        stream=True,
    )
    for chunk in response:
        if chunk.choices[0].delta.content:
            print(chunk.choices[0].delta.content, end="")
    client.close()
    assert "Hello" in capsys.readouterr().out


@pytest.mark.slow
def test_the_configuration_and_the_lines_of_the_second_seed(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    with serve(tmp_path, "--config", str(config), "--backend", "torch") as server:
        body = json.loads(shell(server, CURL_WITH_KEY))
        assert body["object"] == "chat.completion"
        assert body["model"] == "my-fine-tuned-model"
        assert body["usage"]["total_tokens"] > body["usage"]["prompt_tokens"] > 0
        refused = httpx.get(f"{server.url}/v1/models")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        with server.openai(api_key="sk-your-secret-key") as client:
            listed = [model.id for model in client.models.list()]
            assert listed == ["my-fine-tuned-model", "my-embedding-model"]
            answer = client.chat.completions.with_raw_response.create(
                model="my-fine-tuned-model", messages=[{"role": "user", "content": "Hello!"}]
            )
            assert answer.parse().choices[0].message.content
            assert answer.headers["x-ratelimit-limit-requests"] == "60"
        vectors = json.loads(shell(server, CURL_EMBEDDING))
        assert vectors["object"] == "list"
        assert vectors["model"] == "my-embedding-model"
        assert (vectors["data"][0]["object"], vectors["data"][0]["index"]) == ("embedding", 0)
        assert len(vectors["data"][0]["embedding"]) == 48
        assert vectors["usage"]["prompt_tokens"] == vectors["usage"]["total_tokens"] > 0


def test_the_lines_of_the_fifth_seed(demo_on_torch: Process) -> None:
    assert events(shell(demo_on_torch, CURL_ROPE, API_KEY="anything"))


def test_the_embedding_line_of_the_fifth_seed(demo_on_torch: Process) -> None:
    answer = json.loads(shell(demo_on_torch, CURL_ROPE_EMBEDDING, API_KEY="anything"))
    assert [item["index"] for item in answer["data"]] == [0, 1]


def test_the_embeddings_of_the_fourth_seed(demo_on_torch: Process) -> None:
    client = OpenAI(base_url=f"{demo_on_torch.url}/v1", api_key="not-needed")
    # Single
    resp = client.embeddings.create(model="bge-base-zh", input="Sample text")
    vec = resp.data[0].embedding
    # Batch
    texts = ["Text 1", "Text 2", "Text 3"]
    resp = client.embeddings.create(model="bge-base-zh", input=texts)
    vectors = [d.embedding for d in resp.data]
    client.close()
    assert {len(vector) for vector in (vec, *vectors)} == {len(vec)}
    assert sum(value * value for value in vec) == pytest.approx(1, abs=1e-5)
    assert len(vectors) == 3


def test_the_transcription_of_the_fourth_seed(demo_on_torch: Process, tmp_path: Path) -> None:
    hiss = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    (tmp_path / "audio.wav").write_bytes(wav_bytes(hiss, 16_000))
    answer = json.loads(shell(demo_on_torch, CURL_INFERENCE, folder=tmp_path))
    assert isinstance(answer["text"], str)
    with (tmp_path / "audio.wav").open("rb") as f:
        r = httpx.post(
            at(demo_on_torch, "http://127.0.0.1:8082/inference"),
            files={"file": f},
            data={"language": "zh", "response_format": "json"},
            timeout=60,
        )
    assert r.json() == answer


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_the_javascript_of_the_fourth_seed(demo_on_torch: Process) -> None:
    done = subprocess.run(
        ["node", "--input-type=module", "-e", at(demo_on_torch, NODE)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Hello" in done.stdout


@pytest.mark.slow
def test_split_ports_list_and_default_to_their_kind(tmp_path: Path) -> None:
    with serve(tmp_path, "--backend", "torch", "--ports", "chat=0,embedding=0,stt=0") as server:
        assert len(server.urls) == 4
        listed = []
        for url in server.urls:
            assert httpx.get(f"{url}/health").json()["status"] == "ok"
            models = httpx.get(f"{url}/v1/models").json()["data"]
            listed.append({model["type"] for model in models})
        whole = set().union(*listed)
        assert {"chat", "embedding", "rerank"} <= whole
        kinds = [kind for kind in ("chat", "embedding", "stt") if kind in whole]
        assert whole in listed
        assert all({kind} in listed for kind in kinds)
        # Without a name, an embedding port and a chat port take the model of their own kind.
        embedding = server.urls[listed.index({"embedding"})]
        answer = httpx.post(f"{embedding}/v1/embeddings", json={"input": "Sample text"}, timeout=60)
        assert answer.json()["model"] == "demo-embedding"
