"""Is whatever lies in a class folder read right or refused in one line, within 1.5 GB?"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.data.made_up_images import random_pixels, write_folder
from vitbench.data import load
from vitbench.data.listing import list_folder
from vitbench.data.reading import ListedSplit

READ_ALL = """
import json, resource, sys, warnings
from vitbench.data.decode import fit
from vitbench.data.listing import list_folder
from vitbench.data.reading import ListedSplit
warnings.simplefilter("error")
if len(sys.argv) > 2:  # bytes that it may still take
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + int(sys.argv[2]),) * 2)
split = ListedSplit(sys.argv[1], list_folder(sys.argv[1]), "the train split")
answers = {}
for index in range(len(split)):
    try:
        image, _ = split.read(index)
        pixels = fit(image, (224, 224), 3, split.image_name(index))
        answers[split.filename(index)] = [list(image.size), pixels[:, 112, 112].tolist()]
    except ValueError as error:
        answers[split.filename(index)] = str(error)
with open("/proc/self/status") as status:  # getrusage's peak may be that of the process that started this one
    status = status.read()
print(json.dumps([int(status.partition("VmHWM:")[2].split()[0]) * 1024, answers]))
"""


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *, bits: int = 8, colour: int = 0, more: bytes = b"") -> bytes:
    """All black; with `colour` 6, of no opacity (PNG specification, 5.2 and 11.2)."""
    row = bytes(1 + (width * (4 if colour == 6 else 1) * bits + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def stored(format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype=np.uint8)).save(file, format)
    return file.getvalue()


REFUSED = {
    "400_megapixels.png": png(20_000, 20_000, bits=1),
    "100_megapixels.png": png(10_000, 10_000, bits=1),
    "no_pixels.png": png(0, 5),
    "text.jpg": b"hello\n" * 9,
    "empty.png": b"",
    "cut.png": stored("PNG")[:900],
    "header_alone.png": stored("PNG")[:33],
    "magic_alone.png": stored("PNG")[:8] + bytes(range(200)),
    "text_bomb.png": png(5, 5, more=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**8)))),
    "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
}
HIGH = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 10_000_001, 8, 0, 0, 0, 0)) + png(1, 1)[33:]
READ = {
    "strip.png": (png(1, 60_000), [1, 60_000], [0, 0, 0]),
    "wide_strip.png": (png(60_000, 1), [60_000, 1], [0, 0, 0]),
    "large.png": (png(5_000, 5_000, colour=6), [5_000, 5_000], [255, 255, 255]),
    "another_name.jpg": (png(5, 5), [5, 5], [0, 0, 0]),
}


def test_each_file_is_one_line_or_read_right_in_little_memory(tmp_path):
    (tmp_path / "a").mkdir()
    for name, content in {**REFUSED, **{name: content for name, (content, _, _) in READ.items()}}.items():
        (tmp_path / "a" / name).write_bytes(content)
    with (tmp_path / "a" / "holes.png").open("wb") as file:
        file.truncate(10 * 2**30)
    command = [sys.executable, "-c", READ_ALL, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    peak_bytes, answers = json.loads(said.stdout)
    assert said.stderr == "" and peak_bytes < 1.5e9
    for name in [*REFUSED, "holes.png"]:
        answer = answers.pop(f"a/{name}")
        assert answer.startswith(f"image 'a/{name}' of the train split cannot be read (") and "\n" not in answer
        assert str(tmp_path) not in answer and "0x" not in answer
    assert answers == {f"a/{name}": [size, middle] for name, (_, size, middle) in READ.items()}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("comment.ppm", b"P6\n" + b"#" * 600_000, "in more than 500,000 pieces"),
        ("padding.jpg", b"\xff\xd8" + b"\xff" * 600_000, "in more than 500,000 pieces"),
        ("lines.xpm", b"/* XPM */\n" + b"\n" * 600_000, "in more than 500,000 pieces"),
        ("rows.png", HIGH, "its longer side has 10,000,001 pixels, more than 10,000,000"),
    ],
)
def test_what_pillow_would_take_long_or_much_memory_for_is_refused(tmp_path, name, content, says):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_bytes(content)
    assert says in read(ListedSplit(str(tmp_path), list_folder(str(tmp_path)), "the train split"), 0)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "JPEG2000", "AVIF", "ICO", "PCX"])
def test_damaged_bytes_are_one_line_or_an_image(tmp_path, format):
    whole, rng = stored(format), np.random.default_rng(0)
    folder = tmp_path / "a"
    folder.mkdir()
    for i in range(40):
        content = np.frombuffer(whole, np.uint8).copy()
        content[rng.integers(min(len(whole), 200 if i % 2 else len(whole)), size=3)] = rng.integers(256, size=3)
        (folder / f"{i}.png").write_bytes(content[: rng.integers(len(whole)) if i % 4 == 0 else None].tobytes())
    split = ListedSplit(str(tmp_path), list_folder(str(tmp_path)), "the train split")
    for index in range(40):
        answer = read(split, index)
        assert isinstance(answer, Image.Image) or (
            answer.startswith(f"image {split.filename(index)!r} of the train split cannot be read (")
            and "\n" not in answer
        )


def read(split: ListedSplit, index: int) -> Image.Image | str:
    try:
        return split.read(index)[0]
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize(
    "error", [SyntaxError, struct.error, zlib.error, EOFError, MemoryError, RecursionError, TypeError, OverflowError]
)
def test_whatever_a_decoder_raises_names_the_file(image_folder, monkeypatch, error):
    def fail(*_: object, **__: object) -> None:
        raise error("why\nnot")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(
        ValueError, match=r"^image 'cat/0.png' of the train split of 'pets@.*' cannot be read \(why not\); .*$"
    ):
        load(str(image_folder))


def test_where_memory_is_short_a_large_image_is_one_line(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "large.png").write_bytes(png(6_000, 6_000, colour=6))  # 0.14 GB, and as much again on white
    (tmp_path / "a" / "less.png").write_bytes(png(6_000, 6_000))  # 0.04 GB, and 0.14 GB in three channels
    command = [sys.executable, "-c", READ_ALL, str(tmp_path), "150_000_000"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = json.loads(said.stdout)[1]
    assert answers["a/large.png"] == (
        "image 'a/large.png' of the train split cannot be read (MemoryError); mend or remove it"
    )
    assert answers["a/less.png"] == (
        "image 'a/less.png' of the train split has 6000 × 6000 pixels, which need more memory than there is; make it smaller"
    )


def test_a_channel_that_never_varies_is_said(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("vitbench.data.loading._SAID", set())
    pixels = random_pixels()
    for array in pixels.values():
        array[..., 2] = 7
    for _ in range(2):
        data = load(str(write_folder(tmp_path / "flat", pixels)))
    assert data.std[2] == 0 and capfd.readouterr().err.splitlines() == [
        f"vitbench: {data.info.dataset}: channel 2 has one value in all training images, and tells nothing"
    ]


def test_a_grey_image_among_coloured_ones_is_shown_in_three_channels(tmp_path):
    pixels = random_pixels()
    pixels["train/cat/0.png"] = np.full((12, 10), 9, np.uint8)
    data = load(str(write_folder(tmp_path / "pets", pixels)))
    assert data.info.in_channels == 3 and (data.train.array[0] == 9).all()
