from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxsrv.backends import checkpoint
from mlxsrv.backends.generation import GenerationDefaults, generation_defaults
from mlxsrv.core.errors import CheckpointRefused, LoadError
from mlxsrv.core.kinds import Kind
from tests.checkpoints import FLUX, LLAMA, model_files, pipeline_files, safetensors

Make = Callable[..., Path]
WEIGHTS = safetensors({"w": ("F32", (4, 4))})


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(files: Mapping[str, bytes], *, without: tuple[str, ...] = ()) -> Path:
        for name, content in files.items():
            if name not in without:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_bytes(content)
        return tmp_path

    return make


def encode(value: object) -> bytes:
    return json.dumps(value).encode()


def test_a_chat_model(make: Make) -> None:
    generation = {"eos_token_id": [7, 2], "temperature": 0.6, "top_p": 0.9, "do_sample": True}
    folder = make(model_files(LLAMA, {"generation_config.json": encode(generation)}))
    found = checkpoint.read(folder)
    assert found.kind is Kind.CHAT
    assert (found.model_type, found.architecture) == ("llama", "LlamaForCausalLM")
    assert (found.context_length, found.dtype) == (512, "float32")
    assert (found.weight_bytes, found.parameters) == (4096, 1024)
    assert found.eos_ids == (2, 7)
    assert found.defaults == GenerationDefaults(temperature=0.6, top_p=0.9)
    assert (found.quantization, found.mlx_quantized) == (None, False)
    assert found.created == int((folder / "config.json").stat().st_mtime)


@pytest.mark.parametrize("file", ["chat_template.jinja", "chat_template.json"])
def test_a_template_makes_a_chat_model(make: Make, file: str) -> None:
    plain = model_files(LLAMA, {"tokenizer_config.json": b"{}"})
    assert checkpoint.read(make(plain)).kind is Kind.COMPLETION
    found = checkpoint.read(make({file: b"{{ messages }}"}))
    assert found.kind is Kind.CHAT
    assert found.has_chat_template


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}, "stt"),
        ({"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]}, "stt"),
        ({"model_type": "vits", "architectures": ["VitsModel"]}, "tts"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "embedding"),
        (
            {"model_type": "xlm-roberta", "architectures": ["XLMRobertaForSequenceClassification"]},
            "rerank",
        ),
        (
            {
                "model_type": "qwen2_5_vl",
                "architectures": ["Qwen2_5_VLForConditionalGeneration"],
                "vision_config": {},
                "text_config": {"max_position_embeddings": 128},
            },
            "vision",
        ),
    ],
)
def test_kinds(make: Make, config: dict[str, Any], kind: str) -> None:
    assert checkpoint.read(make(model_files(config))).kind == kind


def test_sentence_transformers(make: Make) -> None:
    files = model_files(
        LLAMA, {"modules.json": b"[]", "sentence_bert_config.json": b'{"max_seq_length": 128}'}
    )
    found = checkpoint.read(make(files))
    assert (found.kind, found.context_length) == (Kind.EMBEDDING, 128)


WITH_CODE = {"model_type": "mine", "auto_map": {"AutoModel": "mine.Evil"}}
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


def test_a_pipeline_is_the_sum_of_its_parts(make: Make) -> None:
    found = checkpoint.read(make(pipeline_files()))
    assert (found.kind, found.model_type) == (Kind.IMAGE, "FluxPipeline")
    assert found.parameters == 8 * 64 + 64 * 64 + 128 * 64 + 128 + 4 * 27
    assert (found.weight_bytes, found.dtype) == (2 * found.parameters, "bfloat16")
    assert (found.quantization, found.mlx_quantized, found.context_length) == (None, False, None)


def test_a_pipeline_may_hold_its_weights_in_several_precisions(make: Make) -> None:
    plain = checkpoint.read(make(pipeline_files()))
    half = TRANSFORMER.replace(".safetensors", ".fp16.safetensors")
    assert checkpoint.read(make({half: WEIGHTS})).weight_bytes == plain.weight_bytes
    (plain.folder / TRANSFORMER).unlink()
    assert checkpoint.read(plain.folder).weight_bytes < plain.weight_bytes


def test_a_pipeline_that_mlx_packed(make: Make) -> None:
    tensors = {"c.weight": ("U32", (128, 8)), "c.scales": ("BF16", (128, 1))}
    packed = safetensors({**tensors, "c.biases": ("BF16", (128, 1))})
    config = encode({"quantization": {"group_size": 64, "bits": 4}})
    found = checkpoint.read(
        make(pipeline_files({TRANSFORMER: packed, "transformer/config.json": config}))
    )
    assert (found.quantization, found.mlx_quantized) == ("4-bit", True)
    assert found.parameters == 8 * 64 + 64 * 64 + 128 * 64 + 4 * 27


@pytest.mark.parametrize(
    ("changed", "without", "words"),
    [
        ({}, "vae/", "not complete: vae is missing"),
        ({}, "tokenizer_2/", "not complete: tokenizer_2 is missing"),
        ({"transformer/model.bin": b"x"}, TRANSFORMER, "has only pickled weights"),
        ({}, TRANSFORMER, "transformer holds no model weights"),
        ({"transformer/mine.py": b"", "model_index.json": ["mine", "Net"]}, "", "Python code"),
        ({"model_index.json": {"_class_name": ["mine", "Pipe"]}}, "", "Python code"),
        ({"model_index.json": {"_class_name": "WanPipeline"}}, "", "WanPipeline, which makes vid"),
        ({"model_index.json": {"_class_name": "StableAudioPipeline"}}, "", "which makes sound"),
        ({"model_index.json": {}}, "", "names no pipeline"),
        ({"model_index.json": {**FLUX, "../vae": ["diffusers", "X"]}}, "", "outside its folder"),
        ({"text_encoder/config.json": encode(WITH_CODE)}, "", "own Python code"),
    ],
)
def test_what_no_pipeline_is_made_of(
    make: Make, changed: dict[str, Any], without: str, words: str
) -> None:
    index = changed.get("model_index.json")
    if isinstance(index, list):
        index = {**FLUX, "transformer": index}
    if index is not None:
        changed = {**changed, "model_index.json": encode(index)}
    files = pipeline_files(changed)
    left = [name for name in files if without and name.startswith(without)]
    with pytest.raises(LoadError, match=words):
        checkpoint.read(make(files, without=tuple(left)))


def test_a_part_alone_says_what_to_name(make: Make) -> None:
    folder = make(pipeline_files())
    with pytest.raises(LoadError, match=r"is one part of an image model .*model_index\.json"):
        checkpoint.read(folder / "transformer")


def test_nested_text_config(make: Make) -> None:
    text = {"max_position_embeddings": 99, "eos_token_id": 5}
    config = {"model_type": "gemma3", "text_config": text}
    found = checkpoint.read(make(model_files(config)))
    assert (found.context_length, found.eos_ids) == (99, (5,))


def test_mlx_quantised(make: Make) -> None:
    weights = safetensors(
        {
            "l.weight": ("U32", (8, 8)),
            "l.scales": ("BF16", (8, 1)),
            "l.biases": ("BF16", (8, 1)),
            "norm.weight": ("BF16", (64,)),
        }
    )
    config = {**LLAMA, "quantization": {"group_size": 64, "bits": 4}}
    found = checkpoint.read(make(model_files(config, {"model.safetensors": weights})))
    assert (found.quantization, found.mlx_quantized) == ("4-bit", True)
    assert (found.parameters, found.dtype) == (8 * 64 + 64, "bfloat16")


def test_other_quantisations(make: Make) -> None:
    gptq = {**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 4}}
    found = checkpoint.read(make(model_files(gptq)))
    assert (found.quantization, found.mlx_quantized) == ("4-bit", False)
    fp8 = {**LLAMA, "quantization_config": {"quant_method": "fp8"}}
    assert checkpoint.read(make(model_files(fp8))).quantization == "fp8"


SHARDS = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
INDEX = encode({"weight_map": SHARDS})


def test_shards(make: Make) -> None:
    shards = dict.fromkeys(SHARDS.values(), WEIGHTS)
    index = {"model.safetensors.index.json": INDEX}
    folder = make({**model_files(), **shards, **index}, without=("model.safetensors",))
    assert checkpoint.read(folder).weight_bytes == 128


@pytest.mark.parametrize("with_index", [True, False])
def test_a_missing_shard_is_named(make: Make, with_index: bool) -> None:
    files = {**model_files(), SHARDS["a"]: WEIGHTS}
    if with_index:
        files["model.safetensors.index.json"] = INDEX
    folder = make(files, without=("model.safetensors",))
    with pytest.raises(LoadError, match=r"not complete: model-00002-of-00002\.safetensors is miss"):
        checkpoint.read(folder)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"model.gguf": b"GGUF"}, "has only GGUF weights: use the safetensors version"),
        ({"pytorch_model.bin": b"x"}, "has only pickled weights, which can run code"),
        ({"model.ckpt": b"x"}, "or convert it with `python -m mlx_lm convert`"),
        ({"adapter_model.safetensors": WEIGHTS}, r"is a LoRA adapter.*--adapter"),
        (
            {"w.safetensors": WEIGHTS, "config.json": encode({"model_file": "m.py"})},
            "brings its own Python code",
        ),
        (
            {
                "w.safetensors": WEIGHTS,
                "config.json": encode({"auto_map": {}, "model_type": "my-own"}),
            },
            "brings its own Python code, which is never run",
        ),
        (
            {
                "w.safetensors": WEIGHTS,
                "config.json": encode({"auto_map": {}, "model_type": "../../x"}),
            },
            "brings its own Python code",
        ),
    ],
)
def test_refusals_say_what_to_use(make: Make, files: dict[str, bytes], words: str) -> None:
    folder = make({"config.json": encode(LLAMA), **files})
    with pytest.raises(CheckpointRefused, match=words):
        checkpoint.read(folder)


def test_code_beside_a_known_architecture_is_ignored(make: Make) -> None:
    config = {**LLAMA, "auto_map": {"AutoModel": "modeling.Evil"}}
    folder = make(model_files(config, {"modeling.py": b"raise SystemExit(1)"}))
    assert checkpoint.read(folder).kind is Kind.CHAT


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config.json": b"{"}, r"config\.json is not valid JSON"),
        ({"config.json": b"\xff\xfe"}, r"config\.json is not valid JSON"),
        ({"config.json": b"[]"}, "should hold a JSON object"),
        ({"config.json": b"[" * 100_000}, r"config\.json is not valid JSON"),
        ({"model.safetensors": b""}, "the download was cut off"),
        ({"model.safetensors": WEIGHTS[:-1]}, "the download was cut off"),
        ({"model.safetensors": WEIGHTS[:20]}, "the download was cut off"),
        ({"model.safetensors": WEIGHTS + b"x"}, "longer than its header says"),
        ({"model.safetensors": b"\xff" * 64}, "the download was cut off"),
        ({"model.safetensors": b"\x02" + bytes(7) + b"no"}, "its header is not JSON"),
        ({"model.safetensors": b"\x02" + bytes(7) + b"[]"}, "its header is not an object"),
        (
            {
                "model.safetensors.index.json": encode(
                    {"weight_map": {"a": "../../../etc/passwd.safetensors"}}
                )
            },
            "names a file outside its folder",
        ),
        ({"model.safetensors.index.json": b"[]"}, "is not a valid weight index"),
    ],
)
def test_damage_is_described(make: Make, files: dict[str, bytes], words: str) -> None:
    folder = make({**model_files(), **files})
    with pytest.raises(LoadError, match=words):
        checkpoint.read(folder)


def test_what_is_not_a_model_folder(make: Make, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no such model folder"):
        checkpoint.read(tmp_path / "none")
    with pytest.raises(LoadError, match="holds no model weights"):
        checkpoint.read(tmp_path)
    folder = make(model_files(), without=("config.json",))
    with pytest.raises(LoadError, match=r"has no config\.json"):
        checkpoint.read(folder)
    with pytest.raises(LoadError, match="is a file: name the folder"):
        checkpoint.read(folder / "model.safetensors")
    (tmp_path / "x.gguf").touch()
    with pytest.raises(CheckpointRefused, match="GGUF"):
        checkpoint.read(tmp_path / "x.gguf")


def test_flux_in_single_files_is_told_where_to_look(tmp_path: Path) -> None:
    tensors = {"double_blocks.0.img_attn.qkv.weight": ("F16", (4, 4))}
    (tmp_path / "flux1-dev.safetensors").write_bytes(safetensors(tensors))
    (tmp_path / "ae.safetensors").write_bytes(safetensors({"decoder.conv_in.bias": ("F32", (4,))}))
    with pytest.raises(LoadError, match=r"single files: use the folder that diffusers reads"):
        checkpoint.read(tmp_path)


def test_a_hostile_header_length_reads_nothing(make: Make) -> None:
    folder = make(model_files())
    with (folder / "model.safetensors").open("wb") as file:
        # A sparse file that really is as long as it claims.
        file.write((1 << 40).to_bytes(8, "little"))
        file.truncate((1 << 40) + 16)
    with pytest.raises(LoadError, match="its header is too long"):
        checkpoint.read(folder)


@given(
    noise=st.binary(max_size=200),
    position=st.integers(0, 300),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(make: Make, noise: bytes, position: int) -> None:
    original = model_files()["model.safetensors"]
    changed = original[:position] + noise + original[position + len(noise) :]
    folder = make(model_files(LLAMA, {"model.safetensors": changed}))
    header_end = 8 + int.from_bytes(changed[:8], "little")
    try:
        found = checkpoint.read(folder).weight_bytes
    except LoadError as error:
        problem = error.message
    else:
        assert found == len(changed) - header_end
        return
    assert "model.safetensors" in problem


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"do_sample": False, "temperature": 0.7}, {"temperature": 0.0}),
        ({"do_sample": True, "top_k": 20, "min_p": 0.05}, {"top_k": 20, "min_p": 0.05}),
        ({"temperature": 0.6, "repetition_penalty": 1.1}, "as given"),
        ({"temperature": 9, "top_p": 0, "top_k": -1, "min_p": True}, {}),
        ({"temperature": "hot", "top_p": None, "repetition_penalty": float("nan")}, {}),
    ],
)
def test_generation_defaults(config: dict[str, Any], expected: dict[str, Any] | str) -> None:
    wanted = config if isinstance(expected, str) else expected
    assert generation_defaults(config) == GenerationDefaults(**wanted)


@pytest.mark.parametrize("value", ["x", None, [], [None, "2"], True, -1, {"a": 1}])
def test_odd_eos_ids_are_passed_over(make: Make, value: object) -> None:
    config = {**LLAMA, "eos_token_id": value}
    assert checkpoint.read(make(model_files(config))).eos_ids == ()
