"""Files that ask for more than they are: what they may cost, measured in a process of their own."""

from __future__ import annotations

import json
import mmap
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mlxsrv.core.errors import InvalidRequest
from mlxsrv.media import mp4_guard
from mlxsrv.media.audio_decode import decode
from tests.media.sounds import chirp, write, write_coded

MANY = 100_000_000
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}

DECODE = """
import json, resource, sys, warnings
from pathlib import Path
from mlxsrv.core.errors import InvalidRequest
from mlxsrv.media.audio_decode import decode
warnings.simplefilter("error")
unit = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
def seconds(path):
    try:
        return sum(map(len, decode(path, rate=16000))) / 16000
    except InvalidRequest:
        return None
first, *rest = map(Path, sys.argv[1:])
assert seconds(first)
start = peak()
print(json.dumps([(path.name, seconds(path), (peak() - start) / 2**20) for path in rest]))
"""


def cost(*files: Path) -> dict[str, tuple[float | None, float]]:
    """Of each file: its seconds, None where it is refused, and the peak until then in MiB."""
    command = [sys.executable, "-c", DECODE, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return {name: (seconds, peak) for name, seconds, peak in json.loads(done.stdout)}


def patched(path: Path, content: bytes, box: bytes, *words: int, skip: int = 1) -> Path:
    """Writes `words` into the first `box`, after its name and `skip` words."""
    at = content.index(box) + 4 + 4 * skip
    new = struct.pack(f">{len(words)}I", *words)
    path.write_bytes(content[:at] + new + content[at + len(new) :])
    return path


def grown(content: bytes, parents: list[bytes], at: int, extra: bytes) -> bytes:
    """With `extra` at a place inside the first box of each of the parents."""
    sizes = bytearray(content)
    for name in parents:
        start = content.index(name) - 4
        (size,) = struct.unpack_from(">I", content, start)
        struct.pack_into(">I", sizes, start, size + len(extra))
    return bytes(sizes[:at]) + extra + bytes(sizes[at:])


def is_harmless(path: Path) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return mp4_guard.is_harmless(data)


def many_tracks(path: Path, content: bytes) -> Path:
    start = content.index(b"trak") - 4
    (size,) = struct.unpack_from(">I", content, start)
    track = content[start : start + size]
    path.write_bytes(grown(content, [b"moov"], start + size, 30 * track))
    return path


def many_edits(path: Path, content: bytes) -> Path:
    start = content.index(b"elst")
    edits = struct.pack(">IIHH", MANY, 0, 1, 0) * 50_000
    whole = grown(content, [b"moov", b"trak", b"edts", b"elst"], start + 12, edits)
    return patched(path, whole, b"elst", 50_001)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    return write_coded(folder / "plain.m4a", chirp(20, 16_000), 16_000, "aac")


def many_chunks(path: Path, content: bytes) -> Path:
    start = content.index(b"stco")
    parents = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stco"]
    whole = grown(content, parents, start + 12, bytes(4 * 1_000))
    patched(path, whole, b"stco", 1_001)
    return patched(path, path.read_bytes(), b"stsc", 1, 1, 2_000_000_000)


def bombs(folder: Path, plain: Path) -> list[Path]:
    m4a = plain.read_bytes()
    mov = write_coded(folder / "mov", chirp(20, 16_000), 16_000, "pcm_s16le", format="mov")
    mp4 = write_coded(
        folder / "mp4", chirp(9, 16_000), 16_000, "aac", format="mp4", muxing=FRAGMENTS
    )
    million = patched(folder / "million.m4a", m4a, b"stsz", 1, 1_000_000)
    wav = write(folder / "plain.wav", chirp(1, 16_000), 16_000, "PCM_16").read_bytes()
    told = b"LIST" + struct.pack("<I", 0x7FFFFFF0) + b"INFOISFT" + struct.pack("<I", 0x3FFFFFF0)
    (folder / "told.wav").write_bytes(wav[:36] + told + wav[36:])
    return [
        patched(folder / "samples.m4a", m4a, b"stsz", 1, MANY),
        patched(folder / "fragment.mp4", mp4.read_bytes(), b"trun", 0, MANY, skip=0),
        many_chunks(folder / "chunks.mov", mov.read_bytes()),
        many_tracks(folder / "tracks.m4a", million.read_bytes()),
        many_edits(folder / "edits.m4a", m4a),
        folder / "told.wav",
    ]


def test_a_header_does_not_fill_the_memory(tmp_path: Path, plain: Path) -> None:
    costs = cost(plain, *bombs(tmp_path, plain))
    assert len(costs) == 6
    for name, (seconds, peak) in costs.items():
        assert seconds is None, name
        assert peak < 50, name


def test_each_is_seen_before_it_is_opened(tmp_path: Path, plain: Path) -> None:
    files = [file for file in bombs(tmp_path, plain) if file.suffix != ".wav"]
    assert [is_harmless(file) for file in [*files, plain]] == [False] * 5 + [True]


def test_hours_are_decoded_in_little_memory(tmp_path: Path, plain: Path) -> None:
    with soundfile.SoundFile(tmp_path / "silence.flac", "w", 8_000, 1, "PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros(60 * 8_000, np.int16))
    assert (tmp_path / "silence.flac").stat().st_size < 200_000
    seconds, peak = cost(plain, tmp_path / "silence.flac")["silence.flac"]
    assert seconds == 3600
    assert peak < 50


@pytest.mark.parametrize("muxing", [{}, FRAGMENTS, {"movflags": "faststart"}])
def test_an_honest_header_passes(muxing: dict[str, str], tmp_path: Path) -> None:
    sound = chirp(9, 16_000)
    file = write_coded(tmp_path / "a", sound, 16_000, "aac", format="mp4", muxing=muxing)
    assert sum(map(len, decode(file, rate=16_000))) == pytest.approx(9 * 16_000, abs=2_000)


def test_plain_samples_are_not_taken_for_packets(tmp_path: Path) -> None:
    """Two minutes of them are more than the packets of a day of AAC."""
    sound = chirp(120, 96_000)
    file = write_coded(tmp_path / "a", sound, 96_000, "pcm_s16le", format="mov")
    assert sum(map(len, decode(file, rate=16_000))) == pytest.approx(120 * 16_000, abs=1)


def test_a_compressed_header_is_refused(tmp_path: Path, plain: Path) -> None:
    (tmp_path / "a.mov").write_bytes(plain.read_bytes().replace(b"udta", b"cmov"))
    with pytest.raises(InvalidRequest):
        list(decode(tmp_path / "a.mov", rate=16_000))


def test_what_a_server_imports_at_its_start_has_no_codecs() -> None:
    code = (
        "import sys, mlxsrv.media.audio_decode, mlxsrv.media.audio_encode\n"
        "print(sorted({'av', 'soxr', 'soundfile'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
