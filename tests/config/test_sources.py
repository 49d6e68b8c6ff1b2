from __future__ import annotations

from pathlib import Path

import pytest

from mlxsrv.config import sources
from mlxsrv.config.settings import ApiSettings, Settings
from mlxsrv.core.errors import ConfigError
from mlxsrv.core.kinds import Kind

DOCUMENTED = """
[api]
enabled = true
address = "127.0.0.1:8080"
# For external access:
# address = "0.0.0.0:8080"

# Authentication
api_key = "sk-your-secret-key"
require_auth = true

# Rate limiting
max_requests_per_minute = 60
max_tokens_per_minute = 100000

# CORS (for web clients)
cors_enabled = true
cors_origins = ["http://localhost:3000"]

[api.models]

[api.models.my-chat-model]
path = "{models}/chat-model-v1"
type = "chat"
context_length = 4096
default_temperature = 0.7

[api.models.my-embedding-model]
path = "{models}/embedding-model-v1"
type = "embedding"
dimensions = 768

[api.models.my-completion-model]
path = "{models}/completion-model-v1"
type = "completion"
context_length = 2048
"""


def load(tmp_path: Path, text: str, **more: object) -> Settings:
    file = tmp_path / "mlxsrv.toml"
    file.write_text(text, encoding="utf-8")
    return sources.load(file, **{"environ": {}, **more})  # type: ignore[arg-type]


def problems(tmp_path: Path, text: str, **more: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **more)
    return [line.removeprefix(f"{tmp_path}/") for line in caught.value.message.splitlines()]


def test_the_documented_file(tmp_path: Path) -> None:
    for kind in ("chat", "embedding", "completion"):
        (tmp_path / f"{kind}-model-v1").mkdir()
    api = load(tmp_path, DOCUMENTED.replace("{models}", str(tmp_path))).api
    assert api.api_key is not None
    assert api.api_key.get_secret_value() == "sk-your-secret-key"
    assert (api.max_requests_per_minute, api.max_tokens_per_minute) == (60, 100_000)
    assert api.cors_origins == ("http://localhost:3000",)
    assert list(api.models) == ["my-chat-model", "my-embedding-model", "my-completion-model"]
    assert api.models["my-chat-model"].default_temperature == 0.7
    assert api.models["my-embedding-model"].type is Kind.EMBEDDING


def test_flags_beat_variables_beat_the_file(tmp_path: Path) -> None:
    text = "[api]\nmax_queue = 1\nlog_level = 'error'\n[engine]\nmax_batch = 1\n"
    found = load(
        tmp_path,
        text,
        environ={"MLXSRV_MAX_QUEUE": "2", "MLXSRV_LOG_LEVEL": "debug"},
        flags={"max_queue": "3"},
    )
    assert found.api.max_queue == 3
    assert found.api.log_level == "debug"
    assert found.engine.max_batch == 1
    assert found.engine.slice_ms == 50


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[api]\nmax_queue = 'x'", "mlxsrv.toml:2: api.max_queue: Input should be a valid integer"),
        ("\n\napi.max_queue = -1", "mlxsrv.toml:3: api.max_queue: Input should be greater than"),
        ("[api]\nmax_que = 1", "mlxsrv.toml:2: api.max_que: no such setting"),
        ("\n[apy]\n", "mlxsrv.toml:2: apy: no such setting"),
        (
            "[api]\ncors_origins = [\n  'a',\n  'b',\n]\nlog_level = 'loud'\n",
            "mlxsrv.toml:6: api.log_level: Input should be 'debug'",
        ),
        (
            "[api]\ncors_origins = [\n  'a',\n  5,\n]\n",
            "mlxsrv.toml:2: api.cors_origins.1: Input should be a valid string",
        ),
        ("[api]\nports.chat = 99999", "mlxsrv.toml:2: api.ports.chat: Input should be less than"),
        ("[api.ports]\nchatty = 1", "mlxsrv.toml:2: api.ports.chatty: Input should be 'chat'"),
        (
            "[api.models.'org/name']\npath = '/nowhere'\n",
            "mlxsrv.toml:2: api.models.org/name.path: no such file or folder, and not a hub id",
        ),
        ("[api.models.x]\ntype = 'chat'", "mlxsrv.toml:1: api.models.x.path: is required"),
        ("[api]\nenabled = false", "mlxsrv.toml:2: api.enabled: is false"),
        ("[api]\nrequire_auth = true", "mlxsrv.toml:2: api.require_auth: is true, but no api_key"),
        ("[api]\naddress = '0.0.0.0:80'", "mlxsrv.toml:2: api.address: 0.0.0.0 can be reached"),
        ("[api]\naddress = 'here'", "mlxsrv.toml:2: api.address: should be HOST:PORT"),
        ("[api]\nvoices_dir = '/nowhere'", "mlxsrv.toml:2: api.voices_dir: no such folder"),
        ("[hub]\nallowed_folders = ['/nowhere']", "mlxsrv.toml:2: hub.allowed_folders: no such"),
        ("api = 5", "mlxsrv.toml:1: api: Input should be a valid dictionary"),
        ("[api]\nkey = ", "mlxsrv.toml: not valid TOML: "),
    ],
)
def test_bad_files_name_file_line_and_key(tmp_path: Path, text: str, line: str) -> None:
    [found] = problems(tmp_path, text)
    assert found.startswith(line)


def test_every_problem_is_listed(tmp_path: Path) -> None:
    found = problems(tmp_path, "[api]\nmax_queue = 'x'\nnope = 1\n", flags={"kv_bits": "5"})
    assert [line.partition(" ")[0] for line in found] == [
        "mlxsrv.toml:2:",
        "mlxsrv.toml:3:",
        "--kv-bits:",
    ]


def test_bad_flags_and_variables_name_themselves() -> None:
    with pytest.raises(ConfigError, match=r"^--max-queue: Input should be a valid integer"):
        sources.load(environ={}, flags={"max_queue": "x"})
    with pytest.raises(ConfigError, match=r"^MLXSRV_MAX_QUEUE: Input should be a valid integer"):
        sources.load(environ={"MLXSRV_MAX_QUEUE": "x"})
    with pytest.raises(ConfigError, match=r"^MLXSRV_MAX_QEUE: no such setting"):
        sources.load(environ={"MLXSRV_MAX_QEUE": "1"})


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        sources.load(tmp_path / "none.toml", environ={})


def test_lists_ports_and_sizes_as_text() -> None:
    found = sources.load(
        environ={
            "MLXSRV_PORTS": "chat=8080, embedding=8081",
            "MLXSRV_ALLOWED_HOSTS": "a.example, b.example",
            "MLXSRV_BUDGET_BYTES": "8GB",
            "MLXSRV_UI_AUTH": "me:secret",
        }
    )
    assert found.api.ports == {Kind.CHAT: 8080, Kind.EMBEDDING: 8081}
    assert found.api.allowed_hosts == ("a.example", "b.example")
    assert found.memory.budget_bytes == 8_000_000_000
    assert "secret" not in repr(found)


def test_choices_of_numbers_as_text() -> None:
    assert sources.load(environ={"MLXSRV_KV_BITS": "8"}).engine.kv_bits == 8
    models = {"m": {"path": "demo", "quantize": "4", "steps": "2", "guidance": "3.5"}}
    model = sources.load(environ={}, models=models).api.models["m"]
    assert (model.quantize, model.steps, model.guidance) == (4, 2, 3.5)


def test_models_of_the_command_line_take_the_place_of_the_files(tmp_path: Path) -> None:
    text = "[api.models.old]\npath = 'org/old'\n"
    found = load(tmp_path, text, models={"new": {"path": "org/new"}})
    assert list(found.api.models) == ["new"]
    assert list(load(tmp_path, text, models={}).api.models) == ["old"]


def test_a_preview_decoder_has_to_be_there(tmp_path: Path) -> None:
    text = "[api.models.a]\npath = 'o/a'\npreview = '/none/taef1'\n"
    [found] = problems(tmp_path, text)
    assert found == "mlxsrv.toml:3: api.models.a.preview: no such file or folder: /none/taef1"


def test_names_are_used_once(tmp_path: Path) -> None:
    text = "[api.models.a]\npath = 'o/a'\naliases = ['b']\n[api.models.b]\npath = 'o/b'\n"
    [found] = problems(tmp_path, text)
    assert "already names model a" in found


def test_a_model_may_name_another_as_its_draft_but_not_as_its_path(tmp_path: Path) -> None:
    text = "[api.models.a]\npath = 'o/a'\ndraft = 'b'\n[api.models.b]\npath = 'o/b'\n"
    assert load(tmp_path, text).api.models["a"].draft == "b"
    [found] = problems(tmp_path, "[api.models.a]\npath = 'a'\n")
    assert found.startswith("mlxsrv.toml:2: api.models.a.path: no such file or folder")


def test_every_key_is_named_in_one_section_only() -> None:
    names = [key for _, key in list(sources.keys())]
    assert len(names) == len(set(names))
    assert set(ApiSettings.model_fields) - {"models"} <= set(names)
