"""Pictures as the real clients get them, on both backends."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from mlxsrv.api import imageforms
from mlxsrv.config.settings import ModelSettings
from mlxsrv.core.image import Pixels
from mlxsrv.media.image_decode import Picture, decode_picture
from tests import tiny_images
from tests.api.conftest import Servers
from tests.api.serving import Server, serving
from tests.media.pictures import bomb, png, quarters, saved

PATH = "/v1/images/generations"
EDITS = "/v1/images/edits"
VARIATIONS = "/v1/images/variations"
CAKE = "/api/v1/image"
PROMPT = "a red circle on a blue background"
JSON = {"Accept": "application/json"}


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_images.write_flux(tmp_path_factory.mktemp("images") / "tiny")


@pytest.fixture(scope="session")
def image_servers(image_folder: Path) -> Iterator[Servers]:
    """tiny: like schnell; dev: one that heeds guidance, with settings of its own."""
    dev = tiny_images.write_flux(
        image_folder.parent / "dev", seed=1, guidance=True, dynamic_shift=True
    )
    models = {
        "tiny": ModelSettings(path=str(image_folder)),
        "dev": ModelSettings(
            path=str(dev), default_size="96x64", steps=3, guidance=2.5, preload=False
        ),
    }
    with ExitStack() as held:
        yield Servers(held, models, max_image_side=256, max_images=4, max_prompt_chars=500)


@pytest.fixture(params=["mlx", "torch"])
def server(request: pytest.FixtureRequest, image_servers: Servers) -> Server:
    return image_servers.on(request.param)


@pytest.fixture
def one_server(image_servers: Servers) -> Server:
    """For what happens before a backend is asked."""
    return image_servers.on("torch")


def draw(server: Server, prompt: str = PROMPT, **fields: Any) -> httpx.Response:
    response = server.post(PATH, {"prompt": prompt, "model": "tiny", **fields})
    assert response.status_code == 200, response.text
    return response


def edit(server: Server, path: str = EDITS, **fields: Any) -> httpx.Response:
    """Files are bytes, or lists of them; all else is text."""
    given = {"prompt": PROMPT, "model": "tiny", **fields} if path == EDITS else fields
    files: list[tuple[str, tuple[str, bytes]]] = []
    for name in ("image", "mask", "markup"):
        value = given.pop(name, None)
        if isinstance(value, bytes):
            files.append((name, (f"{name}.png", value)))
        elif value is not None:
            files += [(f"{name}[]", (f"{name}.png", one)) for one in value]
    text = {name: str(value) for name, value in given.items()}
    return server.client.post(server.url + path, data=text, files=files, headers=JSON)


def opened(content: bytes | str) -> Image.Image:
    raw = base64.b64decode(content) if isinstance(content, str) else content
    image = Image.open(io.BytesIO(raw))
    image.load()
    return image


def pixels(content: bytes | str) -> Pixels:
    return np.asarray(opened(content).convert("RGB"))


def edited(server: Server, **fields: Any) -> Pixels:
    response = edit(server, seed=1, **fields)
    assert response.status_code == 200, response.text
    return pixels(response.json()["data"][0]["b64_json"])


def events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def error(response: httpx.Response) -> tuple[int, str, str]:
    found = response.json()["error"]
    return response.status_code, found["param"], found["message"]


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_bare_request_gets_the_picture_itself(server: Server) -> None:
    response = draw(server)
    assert response.headers["content-type"] == "image/png"
    image = opened(response.content)
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (64, 64))
    again = draw(server, seed=int(response.headers["x-seed"]))
    np.testing.assert_array_equal(pixels(again.content), pixels(response.content))
    assert draw(server).content != response.content


def test_the_same_seed_is_the_same_picture_to_the_last_bit(server: Server) -> None:
    first = draw(server, seed=5)
    assert draw(server, seed=5).content == first.content
    assert draw(server, seed=6).content != first.content
    assert draw(server, "a green star", seed=5).content != first.content
    for seed in (0, -7, 2**63, 2**64 - 1):
        assert draw(server, seed=seed).headers["x-seed"] == str(seed)
    assert int(draw(server, seed=-1).headers["x-seed"]) >= 0


@pytest.mark.parametrize(
    ("seed", "told"),
    [(-2, [-2, 2**64 - 1]), (2**64 - 1, [2**64 - 1, 0]), (-(2**63), [-(2**63), 1 - 2**63])],
)
def test_every_seed_that_is_told_draws_the_same_again(
    server: Server, seed: int, told: list[int]
) -> None:
    found = draw(server, seed=seed, n=2, steps=1, response_format="b64_json").json()["data"]
    assert [one["seed"] for one in found] == told
    again = draw(server, seed=told[1], steps=1).content
    np.testing.assert_array_equal(pixels(again), pixels(found[1]["b64_json"]))


def test_both_backends_draw_the_same(image_servers: Servers) -> None:
    found = [
        pixels(draw(image_servers.on(name), seed=3).content).astype(float)
        for name in ("mlx", "torch")
    ]
    assert 10 * np.log10(255**2 / np.square(found[0] - found[1]).mean()) > 30


def test_the_sdk_gets_pictures(server: Server) -> None:
    with server.openai() as client:
        answer = client.images.generate(
            prompt=PROMPT, model="tiny", n=3, response_format="b64_json", extra_body={"seed": 7}
        )
        assert answer.data is not None
        assert answer.usage is not None
        assert (answer.size, answer.output_format) == ("64x64", "png")
        assert answer.usage.output_tokens == 3 * 16
        assert answer.usage.total_tokens == 3 * 16 + answer.usage.input_tokens
        alone = [draw(server, seed=7 + place).content for place in range(3)]
        assert [base64.b64decode(one.b64_json or "") for one in answer.data] == alone
        assert [one.seed for one in answer.data] == [7, 8, 9]  # type: ignore[attr-defined]
        plain = client.images.generate(prompt=PROMPT, size="64x48", output_format="webp")
        assert plain.data is not None
        image = opened(plain.data[0].b64_json or "")
        assert (image.format, image.size) == ("WEBP", (64, 48))


def test_the_sdk_sees_the_picture_emerge(server: Server) -> None:
    with server.openai() as client:
        stream = client.images.generate(
            prompt=PROMPT, size="80x64", stream=True, partial_images=2, extra_body={"seed": 7}
        )
        found = list(stream)
    assert [one.type for one in found] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert [one.partial_image_index for one in found[:2]] == [0, 1]  # type: ignore[union-attr]
    assert {opened(one.b64_json).size for one in found} == {(80, 64)}
    assert {one.size for one in found} == {"80x64"}
    last = found[-1]
    assert last.type == "image_generation.completed"
    assert last.usage.output_tokens == 20
    assert base64.b64decode(last.b64_json) == draw(server, seed=7, size="80x64").content


def test_a_stream_tells_every_step_where_that_is_wanted(server: Server) -> None:
    response = draw(server, n=2, seed=1, stream=True, progress=True, partial_images=1)
    assert response.headers["content-type"] == "text/event-stream"
    found = events(response.text)
    kinds = [event["type"].partition(".")[2] for event in found]
    assert kinds.count("partial_image") == kinds.count("completed") == 2
    steps = [(e["index"], e["step"], e["steps"]) for e in found if e["type"].endswith("progress")]
    assert [one for one in steps if one[1]] == [
        (index, step, 4) for index in range(2) for step in range(1, 5)
    ]
    assert len(set(steps)) == len(steps)
    done = [event for event in found if event["type"] == "image_generation.completed"]
    assert [event["seed"] for event in done] == [1, 2]
    assert done[-1]["usage"]["output_tokens"] == 32
    alone = [draw(server, seed=seed).content for seed in (1, 2)]
    assert [base64.b64decode(event["b64_json"]) for event in done] == alone


def test_fields_are_heeded(server: Server) -> None:
    usual = draw(server, seed=1, size="auto").content
    assert opened(usual).size == (64, 64)
    assert draw(server, seed=1, steps=4).content == usual
    assert draw(server, seed=1, num_inference_steps=2).content != usual
    assert opened(draw(server, seed=1, size="32x144").content).size == (32, 144)
    accepted: dict[str, Any] = {
        "quality": "hd",
        "style": "vivid",
        "background": "transparent",
        "moderation": "low",
        "user": "me",
        "guidance_scale": 0,
        "negative_prompt": "",
    }
    assert draw(server, seed=1, **accepted).content == usual
    dev: dict[str, Any] = {"model": "dev", "seed": 1}
    own = draw(server, **dev)
    assert opened(own.content).size == (96, 64)
    assert draw(server, guidance=2.5, steps=3, **dev).content == own.content
    assert draw(server, cfg_scale=6, **dev).content != own.content
    assert draw(server, steps=2, **dev).content != own.content


def test_every_format_holds_the_same_picture(server: Server) -> None:
    wanted = pixels(draw(server, seed=1).content).astype(int)
    for form, compression in (("jpeg", None), ("webp", None), ("jpeg", 80), ("png", 100)):
        given: dict[str, Any] = {"output_format": form, "output_compression": compression}
        response = draw(server, seed=1, **given)
        assert response.headers["content-type"] == f"image/{form}"
        assert opened(response.content).format == form.upper()
        difference = np.abs(pixels(response.content) - wanted).mean()
        assert difference == 0 if form in {"png", "webp"} else difference < 40
    sizes = [
        len(draw(server, seed=1, output_format="jpeg", output_compression=quality).content)
        for quality in (0, 50, 100)
    ]
    assert sizes == sorted(set(sizes))


def test_accept_decides_unless_the_request_does(one_server: Server) -> None:
    for accept, fields, kind in (
        ("*/*", {}, "image/png"),
        ("image/png", {}, "image/png"),
        ("application/json", {}, "application/json"),
        ("application/json, text/plain, */*", {}, "application/json"),
        ("application/json;q=0.5, image/png", {}, "image/png"),
        ("application/json", {"response_format": "png"}, "image/png"),
        ("image/png", {"response_format": "b64_json"}, "application/json"),
        ("*/*", {"response_format": None, "output_format": "webp"}, "image/webp"),
        ("application/json", {"stream": True}, "text/event-stream"),
    ):
        response = one_server.client.post(
            one_server.url + PATH,
            json={"prompt": PROMPT, "steps": 1, **fields},
            headers={"Accept": accept},
        )
        assert response.headers["content-type"] == kind, accept


def test_only_the_first_picture_is_drawn_where_no_other_is_sent(one_server: Server) -> None:
    meters = one_server.services.registry.image_meters()[0]
    before = meters.pictures
    response = draw(one_server, n=4, seed=1, response_format="png")
    assert meters.pictures == before + 1
    assert response.content == draw(one_server, seed=1).content


def test_pictures_tell_how_they_were_made(one_server: Server, image_folder: Path) -> None:
    image = opened(draw(one_server, seed=3, size="64x48").content)
    told = json.loads(image.info["mlxsrv"])
    assert (told["prompt"], told["seed"], told["model"]) == (PROMPT, 3, "tiny")
    assert (told["steps"], told["size"], "guidance" in told) == (4, "64x48", False)
    assert "Seed: 3, Size: 64x48" in image.info["parameters"]
    dev = opened(draw(one_server, model="dev", output_format="jpeg").content)
    comment = dev.getexif().get_ifd(0x8769)[0x9286][8:].decode("utf-16-be")
    assert "CFG scale: 2.5" in comment
    models = {"tiny": ModelSettings(path=str(image_folder))}
    with serving("torch", models, image_metadata=False) as server:
        assert set(opened(draw(server).content).info) == set()
        assert not opened(draw(server, output_format="jpeg").content).getexif()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"prompt": None}, "prompt"),
    ({"prompt": ["a"]}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": " \n"}, "prompt"),
    ({"prompt": "x" * 501}, "prompt"),
    ({"prompt": "x" * 100_000}, "prompt"),
    ({"negative_prompt": "x" * 501}, "negative_prompt"),
    ({"n": 0}, "n"),
    ({"n": 50}, "n"),
    ({"n": 1.5}, "n"),
    ({"n": "2"}, "n"),
    ({"size": "0x0"}, "size"),
    ({"size": "512"}, "size"),
    ({"size": 512}, "size"),
    ({"size": "65x64"}, "size"),
    ({"size": "100000x1"}, "size"),
    ({"size": "100000x16"}, "size"),
    ({"size": "272x16"}, "size"),
    ({"size": "-64x64"}, "size"),
    ({"size": "big"}, "size"),
    ({"steps": 0}, "steps"),
    ({"steps": 10_000}, "steps"),
    ({"num_inference_steps": 0}, "num_inference_steps"),
    ({"steps": "4"}, "steps"),
    ({"guidance": -1}, "guidance"),
    ({"guidance_scale": "high"}, "guidance_scale"),
    ({"seed": 2**64}, "seed"),
    ({"seed": 1.5}, "seed"),
    ({"response_format": "jpeg"}, "response_format"),
    ({"response_format": "url"}, "response_format"),
    ({"response_format": "png", "stream": True}, "response_format"),
    ({"response_format": "png", "output_format": "webp"}, "output_format"),
    ({"output_format": "gif"}, "output_format"),
    ({"output_compression": 101}, "output_compression"),
    ({"output_compression": 50}, "output_compression"),
    ({"partial_images": 4, "stream": True}, "partial_images"),
    ({"partial_images": 1}, "partial_images"),
    ({"progress": True}, "progress"),
    ({"stream": "yes"}, "stream"),
    ({"style": "wild"}, "style"),
    ({"background": "blue"}, "background"),
    ({"quality": 3}, "quality"),
    ({"width": 512}, "width"),
    ({"strength": 0.5}, "strength"),
    ({"image": "aGk="}, "image"),
    ({"frame_count": 4}, "frame_count"),
]


@pytest.mark.parametrize(("fields", "param"), BAD)
def test_bad_fields_are_named(one_server: Server, fields: dict[str, Any], param: str) -> None:
    for model in (None, "tiny", "there/is-none"):
        response = one_server.post(PATH, {"model": model, "prompt": PROMPT, **fields})
        assert error(response)[:2] == (400, param), response.text


def test_what_a_model_does_not_heed_is_refused(one_server: Server) -> None:
    for name, value in (("guidance", 3.5), ("negative_prompt", "x")):
        response = one_server.post(PATH, {"model": "tiny", "prompt": PROMPT, name: value})
        assert error(response)[:2] == (400, name)


def test_links_want_a_folder_for_files(image_folder: Path, one_server: Server) -> None:
    body = {"prompt": PROMPT, "response_format": "url"}
    assert "--files-dir" in error(one_server.post(PATH, body))[2]


def test_a_model_is_needed(tiny_folder: Path) -> None:
    models = {"chat": ModelSettings(path=str(tiny_folder))}
    with serving("torch", models) as server:
        missing = server.post(PATH, {"prompt": PROMPT})
        assert error(missing)[::2] == (404, "No image model loaded")
        assert error(edit(server, image=png(quarters())))[0] == 404
        assert server.post(CAKE, {"image_args": {"prompt": PROMPT}}).json() == {
            "error": "No image model loaded"
        }
        assert error(edit(server, image=b"text"))[:2] == (400, "image")


def test_models_say_what_they_draw(server: Server) -> None:
    draw(server, model="dev")
    model = server.get("/v1/models/dev").json()
    assert model["type"] == "image"
    assert model["image"]["size"] == "96x64"
    assert (model["image"]["steps"], model["image"]["guidance"]) == (3, 2.5)


# Edits


def test_strength_says_how_much_of_a_picture_changes(server: Server) -> None:
    given = quarters(64, 64)
    found = {
        strength: edited(server, image=png(given), strength=strength)
        for strength in (0.0, 0.3, 0.75, 1.0)
    }
    np.testing.assert_array_equal(found[0.0], given)
    plain = pixels(draw(server, seed=1).content)
    np.testing.assert_array_equal(found[1.0], plain)
    assert len({one.tobytes() for one in found.values()}) == 4
    np.testing.assert_array_equal(edited(server, image=png(given)), found[0.75])


def test_only_what_the_mask_marks_changes(server: Server) -> None:
    given = quarters(64, 64)
    marked = np.zeros((64, 64), np.uint8)
    marked[:32] = 255
    clear = np.dstack([np.zeros_like(given), 255 - marked])
    own = np.dstack([given, 255 - marked])
    results = [
        edited(server, image=png(given), mask=png(marked)),
        edited(server, image=png(given), mask=png(clear)),
    ]
    np.testing.assert_array_equal(results[0], results[1])
    alone = edited(server, image=png(own))
    for result in (*results, alone):
        np.testing.assert_array_equal(result[32:], given[32:])
        assert np.abs(result[:32].astype(int) - given[:32]).mean() > 5


def test_hardly_any_transparency_is_no_mask(server: Server) -> None:
    given = quarters(64, 64)
    for alpha in (254, 200):
        shown = np.dstack([given, np.full((64, 64), alpha, np.uint8)])
        found = edited(server, image=png(shown))
        assert np.abs(found.astype(int) - given).mean() > 15


def test_a_mask_too_fine_for_the_picture_is_refused(one_server: Server) -> None:
    marked = np.zeros((640, 640), np.uint8)
    marked[7, 9] = 255
    response = edit(one_server, image=png(quarters(640, 640)), mask=png(marked), size="64x64")
    assert error(response)[:2] == (400, "mask")


def test_the_sdk_edits(server: Server) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[:, :32] = 255
    with server.openai() as client:
        answer = client.images.edit(
            image=("photo.png", png(quarters(64, 48))),
            mask=("mask.png", png(mask)),
            prompt=PROMPT,
            n=2,
            output_format="webp",
            input_fidelity="high",
        )
        assert answer.data is not None
        assert answer.usage is not None
        assert answer.usage.input_tokens_details.image_tokens == 12
        for one in answer.data:
            found = opened(one.b64_json or "")
            assert (found.format, found.size) == ("WEBP", (64, 48))
            np.testing.assert_array_equal(np.asarray(found)[:, 32:], quarters(64, 48)[:, 32:])
        stream = client.images.edit(
            image=[png(quarters(64, 48))], prompt=PROMPT, stream=True, partial_images=1
        )
        kinds = [event.type for event in stream]
        assert kinds == ["image_edit.partial_image", "image_edit.completed"]
        with pytest.deprecated_call():  # by OpenAI, who serves none any more
            varied = client.images.create_variation(image=png(quarters(64, 64)), n=2)
        assert varied.data is not None
        contents = [one.b64_json for one in varied.data]
        assert len(set(contents)) == 2
        assert {opened(content or "").size for content in contents} == {(64, 64)}


def test_variations_stay_near_the_picture(server: Server) -> None:
    given = quarters(64, 64)

    def vary(**fields: Any) -> float:
        response = edit(server, VARIATIONS, image=png(given), seed=1, **fields)
        assert response.status_code == 200, response.text
        found = pixels(response.json()["data"][0]["b64_json"])
        return float(np.abs(found.astype(int) - given).mean())

    assert vary(strength=0) == 0
    assert vary() == vary(strength=0.6)
    assert len({vary(strength=strength) for strength in (0, 0.3, 0.6, 1)}) == 4


def test_any_picture_is_brought_to_size(server: Server) -> None:
    wide = quarters(200, 100)
    for fields, size in (
        ({}, (80, 48)),
        ({"size": "auto"}, (80, 48)),
        ({"size": "64x64"}, (64, 64)),
        ({"size": "128x48"}, (128, 48)),
    ):
        found = edited(server, image=png(wide), strength=0, **fields)
        assert found.shape == (size[1], size[0], 3)
        corners = found[[2, 2, -3, -3], [2, -3, 2, -3]].astype(int)
        expected = wide[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert np.abs(corners - expected).max() < 30, size
    tiny = edited(server, image=png(quarters(2, 3)), strength=0)
    assert tiny.shape == (16, 16, 3)
    photo = saved(Image.fromarray(quarters(1200, 900)), "JPEG")
    assert edited(server, image=photo, steps=1).shape[:2] == (48, 80)


def test_pictures_to_be_read_leave_threads_to_others(
    one_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once: list[int] = [0]

    def slow(*args: Any, **options: Any) -> Picture:
        at_once.append(at_once[-1] + 1)
        time.sleep(0.02)
        at_once.append(at_once[-1] - 1)
        return decode_picture(*args, **options)

    monkeypatch.setattr(imageforms, "decode_picture", slow)
    given: dict[str, Any] = {"image": png(quarters())}
    given |= {"mask": png(np.full((32, 48), 255, np.uint8)), "steps": 1}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: edit(one_server, **given), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(at_once) == 33
    assert max(at_once) == 1


BAD_EDITS: list[tuple[dict[str, Any], str]] = [
    ({"image": b""}, "image"),
    ({"image": b"This is text."}, "image"),
    ({"image": png(quarters())[:100]}, "image"),
    ({"image": bomb()}, "image"),
    ({"image": bomb(7100, 7100)}, "image"),
    ({"image": saved(Image.fromarray(quarters()), "TIFF")}, "image"),
    ({"image": [png(quarters()), b"text"]}, "image.1"),
    ({"mask": b"This is text."}, "mask"),
    ({"mask": bomb()}, "mask"),
    ({"mask": png(quarters(47, 32))}, "mask"),
    ({"mask": png(np.zeros((32, 48, 3), np.uint8))}, "mask"),
    ({"mask": png(np.full((32, 48, 3), 100, np.uint8))}, "mask"),
    ({"markup": png(quarters())}, "markup"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": "x" * 100_000}, "prompt"),
    ({"strength": 1.1}, "strength"),
    ({"strength": "nan"}, "strength"),
    ({"n": "two"}, "n"),
    ({"n": 50}, "n"),
    ({"size": "1x1"}, "size"),
    ({"steps": 0}, "steps"),
    ({"response_format": "url"}, "response_format"),
    ({"input_fidelity": "some"}, "input_fidelity"),
    ({"lora": "x"}, "lora"),
]


@pytest.mark.parametrize(("fields", "param"), BAD_EDITS)
def test_bad_edits_are_named(one_server: Server, fields: dict[str, Any], param: str) -> None:
    for model in ("tiny", "there/is-none"):
        given = {"image": png(quarters()), "model": model, **fields}
        assert error(edit(one_server, **given))[:2] == (400, param)


def test_a_model_takes_only_so_many_pictures(one_server: Server) -> None:
    response = edit(one_server, image=[png(quarters())] * 2)
    assert error(response)[:2] == (400, "image")
    assert "at most 1" in error(response)[2]


def test_a_model_that_looks_at_pictures_draws_anew(tmp_path: Path) -> None:
    folder = tiny_images.write_flux(
        tmp_path / "kontext", pipeline="FluxKontextPipeline", guidance=True
    )
    given = png(quarters(128, 64))
    with serving("torch", {"tiny": ModelSettings(path=str(folder), steps=2)}) as server:
        response = edit(server, image=given, seed=1)
        assert response.status_code == 200, response.text
        image = opened(response.json()["data"][0]["b64_json"])
        assert "strength" not in json.loads(image.info["mlxsrv"])
        found = np.asarray(image)
        assert found.shape == (48, 80, 3)
        assert (edited(server, image=png(quarters(128, 64)[::-1])) != found).any()
        for fields in ({"strength": 0.5}, {"mask": png(np.full((64, 128), 255, np.uint8))}):
            response = edit(server, image=given, **fields)
            assert error(response)[:2] == (400, *fields)


def test_pictures_count_in_the_rate_limits(image_folder: Path) -> None:
    models = {"tiny": ModelSettings(path=str(image_folder))}
    with serving("torch", models, max_tokens_per_minute=40) as server:
        first = draw(server, n=4, response_format="b64_json")
        assert first.headers["x-ratelimit-limit-tokens"] == "40"
        refused = server.post(PATH, {"prompt": PROMPT})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 10


def test_files_are_wanted_as_files(one_server: Server) -> None:
    post = one_server.client.post
    response = post(one_server.url + EDITS, json={"prompt": PROMPT, "image": "x"})
    assert response.status_code == 415
    prompt, text = (None, PROMPT), (None, "x")
    forms: list[tuple[dict[str, Any], str]] = [
        ({"prompt": prompt, "image": text}, "image"),
        ({"prompt": prompt, "mask": ("a.png", png(quarters()))}, "image"),
        ({"prompt": prompt, "image": ("a.png", png(quarters())), "mask": text}, "mask"),
    ]
    for files, param in forms:
        assert error(post(one_server.url + EDITS, files=files))[:2] == (400, param)


# Cake's route


def cake(server: Server, **args: Any) -> list[bytes]:
    response = server.post(CAKE, {"image_args": {"prompt": PROMPT, **args}})
    assert response.status_code == 200, response.text
    return [base64.b64decode(one) for one in response.json()["images"]]


def test_cakes_arguments_are_heeded(server: Server) -> None:
    (usual,) = cake(server, **{"image-seed": 5})
    assert usual == draw(server, seed=5).content
    sized = {"image-seed": 5, "sd-width": 80, "sd-height": 48, "n-steps": 2}
    assert cake(server, **sized) == [draw(server, seed=5, size="80x48", steps=2).content]
    several = cake(server, **{"image-seed": 5, "sd-num-samples": 2, "sd-bsize": 2})
    assert len(set(several)) == 4
    assert several[0] == usual
    given = quarters(64, 64)
    begun = {"sd-img2img": base64.b64encode(png(given)).decode(), "sd-img2img-strength": 0}
    np.testing.assert_array_equal(pixels(cake(server, **begun)[0]), given)
    nothing = {"sd-tracing": True, "sd-use-flash-attn": True, "sd-intermediary-images": 0}
    assert cake(server, **nothing, **{"image-seed": 5, "sd-uncond-prompt": ""}) == [usual]
    response = server.post(
        CAKE,
        {"image_args": {"prompt": PROMPT, "image-seed": 5}, "response_format": "png"},
    )
    assert response.headers["content-type"] == "image/png"
    assert response.content == usual


@pytest.mark.parametrize(
    ("args", "name"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 501}, "prompt"),
        ({"sd-width": 64}, "sd-height"),
        ({"sd-width": 65, "sd-height": 64}, "sd-width"),
        ({"sd-width": 4096, "sd-height": 64}, "sd-width"),
        ({"n-steps": 0}, "n-steps"),
        ({"n-steps": 10_000}, "n-steps"),
        ({"sd-num-samples": 0}, "sd-num-samples"),
        ({"sd-num-samples": 50}, "sd-num-samples"),
        ({"guidance-scale": 7.5}, "guidance-scale"),
        ({"sd-uncond-prompt": "dull"}, "sd-uncond-prompt"),
        ({"sd-img2img": "/home/me/cat.png"}, "sd-img2img"),
        ({"sd-img2img": "aGVsbG8="}, "sd-img2img"),
        ({"sd-img2img-strength": 2}, "sd-img2img-strength"),
        ({"sd-intermediary-images": 3}, "sd-intermediary-images"),
        ({"sd-version": "v1-5"}, "sd-version"),
        ({"image-seed": "x"}, "image-seed"),
    ],
)
def test_cakes_errors_are_plain(one_server: Server, args: dict[str, Any], name: str) -> None:
    response = one_server.post(CAKE, {"image_args": {"prompt": PROMPT, **args}})
    assert response.status_code == 400, response.text
    assert response.json()["error"].startswith(f"image_args.{name}: ")
    assert one_server.post(CAKE, {}).status_code == 400


# Clients that leave, and what fails


def requests(server: Server) -> int:
    """Requests for the model that have not ended."""
    return int(server.get("/v1/models/tiny").json()["requests"])


def form(fields: dict[str, str], file: bytes) -> tuple[bytes, str]:
    head = "--x\r\nContent-Disposition: form-data; name="
    texts = [f'{head}"{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()]
    start = "".join(texts) + f'{head}"image"; filename="a.png"\r\n\r\n'
    body = start.encode() + file + b"\r\n--x--\r\n"
    return body, "multipart/form-data; boundary=x"


def long_job(path: str, *, stream: bool) -> tuple[bytes, str]:
    """Some ten seconds of work."""
    if path == CAKE:
        args = {"prompt": PROMPT, "n-steps": 100, "sd-num-samples": 4}
        args |= {"sd-width": 256, "sd-height": 256}
        return json.dumps({"image_args": args}).encode(), "application/json"
    given: dict[str, Any] = {"prompt": PROMPT, "steps": 100, "n": 4, "size": "256x256"}
    given |= {"stream": True, "progress": True} if stream else {"response_format": "b64_json"}
    if path == PATH:
        return json.dumps({"model": "tiny", **given}).encode(), "application/json"
    text = {name: str(value) for name, value in given.items()}
    return form({"model": "tiny", **text}, png(quarters(64, 64)))


@pytest.mark.parametrize(
    ("path", "stream"),
    [(PATH, False), (PATH, True), (EDITS, False), (EDITS, True), (VARIATIONS, True), (CAKE, False)],
)
def test_a_client_that_leaves_is_forgotten(server: Server, path: str, stream: bool) -> None:
    draw(server, steps=1)
    meters = server.services.registry.image_meters()[0]
    before = meters.steps
    body, kind = long_job(path, stream=stream)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: meters.steps > before + 2)
        assert requests(server) == 1
    wait_until(lambda: requests(server) == 0)
    wait_until(lambda: meters.running == 0)
    done = meters.steps
    assert done - before < 100
    time.sleep(0.1)
    assert meters.steps == done


def test_two_are_drawn_in_turns(server: Server) -> None:
    alone = [draw(server, seed=seed).content for seed in (1, 2, 3)]
    found: dict[int, bytes] = {}

    def drawn(seed: int) -> None:
        found[seed] = draw(server, seed=seed).content

    threads = [threading.Thread(target=drawn, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[seed] for seed in (1, 2, 3)] == alone


def test_what_fails_half_way_is_told(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlxsrv.backends.torch.image import TorchImageBackend

    draw_well = TorchImageBackend.draw

    def fails(self: Any, drawing: Any) -> Iterator[Any]:
        for step in draw_well(self, drawing):
            yield step
            if "bad" in drawing.prompt and step is not None and step.done == 2:
                raise RuntimeError("the device slipped")

    monkeypatch.setattr(TorchImageBackend, "draw", fails)
    body = {"prompt": "a bad circle", "stream": True, "progress": True}
    lines = one_server.post(PATH, body).text.split("\n\n")
    *told, last = [json.loads(line[6:]) for line in lines if line]
    assert told[-1]["step"] == 2
    assert "while it drew" in last["error"]["message"]
    response = one_server.post(PATH, {"prompt": "a bad circle"})
    assert response.status_code == 500
    assert "slipped" not in response.text
    assert draw(one_server).content
