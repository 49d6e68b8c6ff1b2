from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxsrv.core.errors import InvalidRequest
from mlxsrv.media.audio_decode import decode, open_audio, read_voice
from mlxsrv.media.audio_encode import encoder_for
from tests.media.sounds import (
    Samples,
    chirp,
    joined,
    likeness,
    write,
    write_coded,
    write_video,
)

RATE = 16_000
SECONDS = 1.5
LONGER = 6.0
SPEECH = Path(__file__).parents[3] / "shared/data/speech"


def heard(source: Path | bytes, rate: int = RATE) -> Samples:
    return np.concatenate(list(decode(source, rate=rate)))


def refusal(source: Path | bytes, max_seconds: float = 3600) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        list(decode(source, rate=RATE, max_seconds=max_seconds))
    assert caught.value.param == "file"
    return caught.value


def heard_or_refused(content: bytes) -> Samples | None:
    try:
        return heard(content)
    except InvalidRequest as error:
        named = error.param
    assert named == "file"
    return None


def assert_alike(
    sound: Samples, *, seconds: float = SECONDS, at_least: float = 0.99, spare: float = 0.15
) -> None:
    assert sound.dtype == np.float32
    assert -0.03 <= len(sound) / RATE - seconds <= spare
    assert likeness(sound, chirp(seconds, RATE)) > at_least


LIBSNDFILE = [
    ("a.wav", "PCM_16", ""),
    ("a.wav", "PCM_U8", ""),
    ("a.wav", "PCM_24", ""),
    ("a.wav", "PCM_32", ""),
    ("a.wav", "FLOAT", ""),
    ("a.wav", "DOUBLE", ""),
    ("a.wav", "ALAW", ""),
    ("a.wav", "ULAW", ""),
    ("a.wav", "IMA_ADPCM", ""),
    ("a.wav", "MS_ADPCM", ""),
    ("a.wav", "PCM_24", "WAVEX"),
    ("a.wav", "PCM_16", "RF64"),
    ("a.w64", "PCM_16", ""),
    ("a.aiff", "PCM_16", ""),
    ("a.au", "PCM_16", ""),
    ("a.caf", "PCM_24", ""),
    ("a.flac", "PCM_16", ""),
    ("a.flac", "PCM_24", ""),
    ("a.ogg", "VORBIS", ""),
    ("a.opus", "OPUS", "OGG"),
    ("a.mp3", "MPEG_LAYER_III", ""),
]


@pytest.mark.parametrize(("name", "subtype", "format"), LIBSNDFILE)
def test_what_libsndfile_writes(name: str, subtype: str, format: str, tmp_path: Path) -> None:
    mono = chirp(SECONDS, 48_000)
    stereo = np.stack([mono * 0.4, mono * 1.6], axis=1)
    file = write(tmp_path / name, stereo, 48_000, subtype, format)
    assert_alike(heard(file))
    assert_alike(heard(file.rename(tmp_path / "no-name")))


CODED = [
    ("a.m4a", "aac", 44_100),
    ("a.m4a", "alac", 44_100),
    ("a.aac", "aac", 24_000),
    ("a.webm", "libopus", 48_000),
    ("a.mka", "libopus", 24_000),
    ("a.mov", "pcm_s24be", 48_000),
    ("a.mp4", "libmp3lame", 44_100),
    ("a.amr", "libopencore_amrnb", 8_000),
    ("a.wma", "wmav2", 44_100),
    ("a.avi", "libmp3lame", 44_100),
    ("a.ts", "aac", 48_000),
    ("a.flv", "aac", 44_100),
    ("a.ac3", "ac3", 48_000),
]


@pytest.mark.parametrize(("name", "codec", "rate"), CODED)
def test_what_ffmpeg_writes(name: str, codec: str, rate: int, tmp_path: Path) -> None:
    options = {"b": "96000"} if codec == "wmav2" else None
    write_coded(tmp_path / name, chirp(SECONDS, rate), rate, codec, options=options)
    file = (tmp_path / name).rename(tmp_path / "no-name")
    assert_alike(heard(file), at_least=0.95)


@pytest.mark.parametrize("name", ["v.mp4", "v.mov", "v.mkv"])
def test_the_sound_of_a_video(name: str, tmp_path: Path) -> None:
    assert_alike(heard(write_video(tmp_path / name, chirp(SECONDS, 48_000), 48_000)))


@pytest.mark.parametrize("rate", [1_000, 8_000, 11_025, 22_050, 96_000, 192_000])
def test_any_rate(rate: int, tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", chirp(SECONDS, rate), rate, "PCM_16")
    sound = heard(file)
    assert_alike(sound)
    assert abs(len(sound) - SECONDS * RATE) <= 1


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8, 16])
def test_the_channels_are_averaged(channels: int, tmp_path: Path) -> None:
    shares = np.arange(1, channels + 1) * 2 / (channels + 1)
    parts = chirp(SECONDS, RATE)[:, None] * shares.astype(np.float32) / 2
    sound = heard(write(tmp_path / "a.wav", parts, RATE, "FLOAT"))
    assert np.allclose(sound, chirp(SECONDS, RATE) / 2, atol=1e-6)


def test_eight_channels_in_planes(tmp_path: Path) -> None:
    """A table of planes that is full to its end."""
    sound = chirp(SECONDS, 48_000)
    aac = write_coded(tmp_path / "a.m4a", sound, 48_000, "aac", layout="7.1")
    vorbis = write(tmp_path / "a.ogg", np.stack([sound] * 8, axis=1), 48_000, "VORBIS")
    for file in (aac, vorbis):
        assert likeness(heard(file), chirp(SECONDS, RATE)) > 0.97


def test_the_rate_changes_inside_a_stream(tmp_path: Path) -> None:
    parts = [
        write_coded(tmp_path / f"{rate}.aac", chirp(SECONDS, rate), rate, "aac")
        for rate in (44_100, 16_000)
    ]
    sound = heard(joined(tmp_path / "both.aac", *parts))
    assert 2 * SECONDS <= len(sound) / RATE <= 2 * SECONDS + 0.3
    assert_alike(sound[: len(sound) // 2], spare=0.3)
    assert_alike(sound[len(sound) // 2 :], spare=0.3)


def test_wild_samples_are_tamed(tmp_path: Path) -> None:
    samples = chirp(SECONDS, RATE)
    samples[100:103] = np.nan, np.inf, -np.inf
    samples[200:202] = 7, -1e30
    sound = heard(write(tmp_path / "a.wav", samples, RATE, "FLOAT"))
    assert sound[[100, 101, 102, 200, 201]].tolist() == [0, 0, 0, 1, -1]
    assert np.array_equal(sound[300:], samples[300:])


def test_blocks_are_short_and_without_a_seam(tmp_path: Path) -> None:
    long = chirp(35, 44_100)
    file = write(tmp_path / "a.flac", long, 44_100, "PCM_16")
    blocks = list(decode(file, rate=RATE))
    assert len(blocks) > 3
    assert all(0 < len(block) <= 10 * RATE for block in blocks)
    sound, meant = np.concatenate(blocks), chirp(35, RATE)
    assert abs(len(sound) - len(meant)) <= 1
    assert np.allclose(sound[200 : len(meant) - 200], meant[200:-200], atol=1e-3)


def test_a_large_frame_of_slow_sound_is_cut(tmp_path: Path) -> None:
    samples = chirp(60, 1_000, low=10, high=90)
    file = write_coded(tmp_path / "a.flac", samples, 1_000, "flac", options={"frame_size": "30000"})
    blocks = list(decode(file, rate=24_000))
    assert max(map(len, blocks)) == 10 * 24_000
    assert abs(sum(map(len, blocks)) - 60 * 24_000) <= 24


def test_how_long_it_seems(tmp_path: Path) -> None:
    with open_audio(write(tmp_path / "a.mp3", chirp(3, RATE), RATE, "MPEG_LAYER_III")) as audio:
        assert audio.duration_hint == pytest.approx(3, abs=0.2)
    encoder = encoder_for("flac", RATE)
    with open_audio(encoder.encode(chirp(1, RATE)) + encoder.finish()) as audio:
        assert audio.duration_hint is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"R", "can be read"),
        (b"This is a letter, not a song.\n" * 400, "can be read"),
        (bytes(50_000), ""),
        (b"#EXTM3U\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n", "can be read"),
        (
            b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\0\0\0\0",
            "",
        ),
        (b"\0\0\0\x1cftypM4A \0\0\2\0M4A isomiso2", "can be read"),
    ],
)
@pytest.mark.parametrize("name", ["song.mp3", "song.m4a", "song"])
def test_what_is_no_sound(content: bytes, why: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert why in refusal(tmp_path / name).message
    assert why in refusal(content).message


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    song = write(tmp_path / "song.wav", chirp(1, RATE), RATE, "PCM_16")
    lists = {
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{song}\n#EXT-X-ENDLIST\n",
        "a.ffconcat": f"ffconcat version 1.0\nfile '{song}'\n",
        "a.sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns={song}\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=audio 5004 RTP/AVP 0\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        refusal(tmp_path / name)


def test_pictures_and_silent_films(tmp_path: Path) -> None:
    import av

    picture = np.full((48, 64, 3), 99, np.uint8)
    for name, codec, why in (("a.png", "png", "can be read"), ("a.mp4", "mpeg4", "no sound")):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream(codec, rate=10)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "rgb24" if codec == "png" else "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(stream.encode(None))
        assert why in refusal(tmp_path / name).message


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(decode(tmp_path / "none.wav", rate=RATE))
    with pytest.raises(IsADirectoryError):
        list(decode(tmp_path, rate=RATE))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("files")
    sound = chirp(LONGER, RATE)
    opus = encoder_for("opus", RATE)
    return {
        "wav": write(folder / "a.wav", sound, RATE, "PCM_16").read_bytes(),
        "flac": write(folder / "a.flac", sound, RATE, "PCM_16").read_bytes(),
        "mp3": write(folder / "a.mp3", sound, RATE, "MPEG_LAYER_III").read_bytes(),
        "ogg": opus.encode(sound) + opus.finish(),
        "m4a": write_coded(folder / "a.m4a", sound, RATE, "aac").read_bytes(),
        "webm": write_coded(folder / "a.webm", sound, RATE, "libopus").read_bytes(),
        "flv": write_coded(folder / "a.flv", sound, RATE, "aac").read_bytes(),
    }


KINDS = st.sampled_from(["wav", "flac", "mp3", "ogg", "m4a", "webm", "flv"])


@given(kind=KINDS, share=st.floats(0, 1))
def test_a_file_that_is_cut_off_gives_what_is_there(
    files: dict[str, bytes], kind: str, share: float
) -> None:
    whole = heard(files[kind])
    part = heard_or_refused(files[kind][: round(share * len(files[kind]))])
    if part is None:
        assert share < 0.2 or kind == "m4a", "its table stands at the end"
        return
    assert (share - 0.35) * len(whole) <= len(part) <= len(whole) + RATE // 10
    # The last packet may be a torn one.
    sure = max(0, min(len(part), len(whole)) - RATE // 2)
    assert np.allclose(part[:sure], whole[:sure], atol=0.05)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=KINDS, wounds=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6)), min_size=1))
def test_a_damaged_file_is_read_or_refused_and_says_nothing(
    files: dict[str, bytes],
    capfd: pytest.CaptureFixture[str],
    kind: str,
    wounds: list[tuple[float, bytes]],
) -> None:
    content = bytearray(files[kind])
    for share, wound in wounds:
        at = round(share * len(content))
        content[at : at + len(wound)] = wound
    sound = heard_or_refused(bytes(content))
    assert sound is None or (np.abs(sound) <= 1).all()
    assert capfd.readouterr() == ("", "")


def test_a_wound_in_the_middle_costs_only_what_it_hit(files: dict[str, bytes]) -> None:
    content = bytearray(files["mp3"])
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    sound, meant = heard(bytes(content)), chirp(LONGER, RATE)
    assert len(sound) > 0.8 * len(meant)
    third = len(meant) // 3
    assert likeness(sound[:third], meant[:third]) > 0.95
    assert likeness(sound[-third:], meant[-third:]) > 0.95


def test_longer_than_allowed_by_its_header(tmp_path: Path) -> None:
    file = write(tmp_path / "a.flac", np.zeros(30 * 8_000), 8_000, "PCM_16")
    assert "longer than 20 seconds" in refusal(file, max_seconds=20).message
    assert len(heard(file)) == 30 * RATE


def test_longer_than_allowed_without_a_header_that_says_so() -> None:
    encoder = encoder_for("flac", 8_000)
    content = encoder.encode(np.zeros(60 * 8_000, np.float32)) + encoder.finish()
    blocks = decode(content, rate=RATE, max_seconds=20)
    assert len(next(blocks)) > 0
    with pytest.raises(InvalidRequest, match="longer than 20 seconds"):
        list(blocks)
    assert sum(map(len, decode(content, rate=RATE, max_seconds=None))) == 60 * RATE


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="counts open files")
def test_stopping_half_way_leaves_nothing_open(tmp_path: Path) -> None:
    file = write(tmp_path / "a.flac", chirp(30, 8_000), 8_000, "PCM_16")
    refusal(b"no sound at all")
    before = len(os.listdir("/dev/fd"))
    for source in (file, file.read_bytes()):
        for _ in range(20):
            blocks = decode(source, rate=RATE)
            next(blocks)
            blocks.close()  # type: ignore[attr-defined]
            refusal(b"no sound at all")
    assert len(os.listdir("/dev/fd")) == before


def test_many_at_once(files: dict[str, bytes]) -> None:
    kinds = list(files) * 6
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(heard, [files[kind] for kind in kinds]))
    for kind, sound in zip(kinds, results, strict=True):
        assert np.array_equal(sound, results[kinds.index(kind)])
        assert_alike(sound, seconds=LONGER, spare=0.2)


def test_another_thread_may_go_on_with_it(files: dict[str, bytes]) -> None:
    blocks = decode(files["mp3"], rate=RATE)
    first = next(blocks)
    with ThreadPoolExecutor(1) as pool:
        rest: Callable[[], list[Samples]] = lambda: list(blocks)  # noqa: E731
        sound = np.concatenate([first, *pool.submit(rest).result()])
    assert_alike(sound, seconds=LONGER)


def test_a_voice_is_read_whole() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, chirp(SECONDS, 44_100), 44_100, "PCM_16", format="WAV")
    voice = read_voice(buffer.getvalue(), rate=24_000, max_seconds=60, param="voice_data")
    assert likeness(voice, chirp(SECONDS, 24_000)) > 0.99
    assert abs(len(voice) - SECONDS * 24_000) <= 1


@pytest.mark.parametrize("content", [b"not a voice", b""])
def test_a_voice_that_is_none(content: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_voice(content, rate=24_000, max_seconds=60, param="voice_data")
    assert caught.value.param == "voice_data"


def test_a_voice_that_is_too_long(tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", np.zeros(61 * 8_000), 8_000, "PCM_16")
    with pytest.raises(InvalidRequest, match="longer than 60 seconds"):
        read_voice(file, rate=24_000, max_seconds=60, param="voice_path")


@pytest.mark.skipif(not SPEECH.is_dir(), reason="needs the recordings")
def test_real_speech_is_the_same_from_both_of_its_files() -> None:
    sound = heard(SPEECH / "jfk.flac")
    assert len(sound) == 11 * RATE
    assert likeness(heard(SPEECH / "jfk.mp3"), sound) > 0.99
    for file in SPEECH.glob("*.wav"):
        with soundfile.SoundFile(file) as known:
            assert len(heard(file)) == pytest.approx(known.frames / known.samplerate * RATE, abs=1)
