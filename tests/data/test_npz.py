"""Does a FILE.npz give its own pixels and labels, under a name that only its content decides, or one clear refusal?"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitbench.data import describe, load
from vitbench.data.sources import find


def arrays(shape: tuple[int, ...] = (3, 8, 8), dtype: str = "uint8", classes: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    result = {}
    for split, count in (("train", 12), ("test", 6)):
        pixels = rng.random((count, *shape))
        levels = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
        result[f"{split}_images"] = (pixels * levels).astype(dtype)
        result[f"{split}_labels"] = np.arange(count) % classes
    return result


def write(file: Path, **content: Any) -> str:
    np.savez(file, **content)
    return str(file)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_pixels_statistics_and_hash_are_those_of_the_arrays(tmp_path, dtype, channels):
    content = arrays((channels, 8, 8), dtype)
    data = load(write(tmp_path / "cells.npz", **content))
    assert data.info.dtype == dtype and data.info.in_channels == channels and data.info.image_size == (8, 8)
    assert np.array_equal(data.train.array, content["train_images"]) and data.train.array.dtype == dtype
    assert np.array_equal(data.test.labels, content["test_labels"])
    unit = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    pixels = content["train_images"].astype(np.float64) / unit
    assert np.allclose(data.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    assert np.allclose(data.std, pixels.std(axis=(0, 2, 3)), rtol=1e-12)
    parts = (content[f"{split}_{part}"] for split in ("train", "test") for part in ("images", "labels"))
    assert data.sha256 == hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@pytest.mark.parametrize("limit", ["4", "0"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_batches_are_the_same_mapped_and_streamed(tmp_path, monkeypatch, dtype, limit):
    import torch

    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", limit)
    content = arrays((2, 8, 8), dtype)
    data = load(write(tmp_path / "cells.npz", **content))
    ((images, labels),) = data.train.batches(np.array([5, 0, 11]), 3, torch.device("cpu"))
    expected = content["train_images"][[5, 0, 11]].astype(np.float32) / np.float32(65535 if dtype == "uint16" else 1)
    assert images.dtype == torch.float32 and np.array_equal(images.numpy(), expected)
    assert labels.tolist() == [2, 0, 2]


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        ((8, 8), (1, 8, 8)),
        ((8, 8, 3), (3, 8, 8)),
        ((3, 8, 8), (3, 8, 8)),
        ((12, 8, 8), (12, 8, 8)),
        ((2, 6, 9), (2, 6, 9)),
        ((6, 9, 2), (2, 6, 9)),
    ],
)
def test_the_axis_of_channels_is_told_by_its_length(tmp_path, shape, seen):
    content = arrays(shape)
    data = load(write(tmp_path / "x.npz", **content), image_size=seen[1:])
    assert data.train.image_shape == seen
    channels_last = shape != seen and len(shape) == 3
    expected = np.moveaxis(content["train_images"], -1, 1) if channels_last else content["train_images"]
    assert np.array_equal(data.train.array, expected.reshape(-1, *seen))


def test_axes_that_may_be_either_are_refused_until_an_entry_says_which(tmp_path):
    content = arrays((9, 6, 12))
    with pytest.raises(
        ValueError, match=r'which may be \[C, H, W\] or \[H, W, C\]; say which with an entry layout="NCHW"'
    ):
        describe(write(tmp_path / "x.npz", **content))
    assert describe(write(tmp_path / "x.npz", **content, layout="NHWC")).in_channels == 12
    assert describe(write(tmp_path / "x.npz", **content, layout="NCHW")).in_channels == 9
    with pytest.raises(ValueError, match="layout 'HWCN' is unknown; use NCHW or NHWC"):
        describe(write(tmp_path / "x.npz", **content, layout="HWCN"))


def test_the_name_follows_content_alone(tmp_path):
    content = arrays()
    name = describe(write(tmp_path / "cells.npz", **content)).dataset
    assert name.startswith("cells@") and len(name) == len("cells@") + 8
    (tmp_path / "elsewhere").mkdir()
    np.savez_compressed(tmp_path / "elsewhere" / "cells.npz", **dict(reversed(content.items())))
    assert describe("cells.npz", root=tmp_path / "elsewhere").dataset == name
    assert describe(name, root=tmp_path).dataset == name  # as a configuration has it
    content["train_images"][0, 0, 0, 0] ^= 1
    assert describe(write(tmp_path / "cells.npz", **content)).dataset != name
    with pytest.raises(ValueError, match=f"dataset '{name}' is now 'cells@.*its arrays have changed; give it as"):
        describe(name, root=tmp_path)


def test_compressed_big_endian_and_fortran_arrays_give_the_same_pixels(tmp_path):
    content = arrays(dtype="uint16")
    stored = {
        **content,
        "train_images": np.asfortranarray(content["train_images"].astype(">u2")),
        "test_images": content["test_images"].astype(">u2"),
    }
    np.savez_compressed(tmp_path / "x.npz", **stored)
    data = load(str(tmp_path / "x.npz"))
    assert np.array_equal(data.train.array, content["train_images"])
    assert np.array_equal(data.test.array, content["test_images"])


def test_sixteen_bits_are_resized_as_pillow_resizes_floats(tmp_path):
    from PIL import Image

    content = arrays((2, 8, 8), "uint16")
    data = load(write(tmp_path / "x.npz", **content), image_size=(16, 16))
    channel = Image.fromarray(content["train_images"][3, 1].astype(np.float32)).resize(
        (16, 16), Image.Resampling.BICUBIC
    )
    assert np.array_equal(data.train.array[3, 1], np.clip(np.rint(np.asarray(channel)), 0, 65535).astype(np.uint16))


def test_describing_reads_no_pixel_and_imports_no_torch(tmp_path):
    file = write(tmp_path / "x.npz", **arrays())
    code = (
        "import sys; from vitbench.data import describe; from vitbench.data.npz import _Member; _Member.mapped = None; "
        "_Member.rows = None; describe(sys.argv[1]); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, file], check=True)


def test_names_and_entries_that_are_not_used_are_said(tmp_path, capsys):
    content = arrays() | {
        "val_images": np.zeros((1, 3, 8, 8), np.uint8),
        "class_names": np.array(["ant", "bee", "cat"]),
    }
    assert load(write(tmp_path / "x.npz", **content)).class_names == ("ant", "bee", "cat")
    assert "not used of the file: val_images" in capsys.readouterr().err


def test_a_class_without_test_images_is_said(tmp_path, capsys):
    content = arrays() | {"test_labels": np.array([0, 1, 0, 1, 0, 1])}
    assert load(write(tmp_path / "x.npz", **content)).info.num_classes == 3
    assert "test has no image of class 2" in capsys.readouterr().err


def test_the_accuracy_of_always_answering_the_largest_class_is_said(tmp_path, capsys):
    content = arrays() | {"test_labels": np.array([1, 1, 1, 1, 0, 2])}
    load(write(tmp_path / "x.npz", **content))
    assert "66.7% of the test images are of class 1" in capsys.readouterr().err


def test_a_class_of_one_training_image_can_be_split_and_three_images_in_all_cannot(tmp_path):
    from vitbench.data import split

    content = arrays() | {"train_labels": np.array([0] * 10 + [1, 2])}
    train, validation = split(load(write(tmp_path / "x.npz", **content)).train.labels, validation_fraction=0.1, seed=0)
    assert len(validation) == 1 and {10, 11} <= set(train.tolist())
    few = {"train_images": content["train_images"][:2], "train_labels": np.array([0, 1])}
    few |= {"test_images": content["test_images"][:1], "test_labels": np.array([0])}
    info = describe(write(tmp_path / "few.npz", **few))
    with pytest.raises(
        ValueError, match="validation split would be empty: each of the 2 classes has one training image"
    ):
        info.images_left(0.1)


REFUSED = {
    "no train_labels": ({"train_labels": None}, "has no train_labels, but "),
    "another length": ({"train_labels": np.zeros(5, int)}, "train_labels are 5, of 12 images"),
    "float labels": ({"train_labels": np.zeros(12)}, r"train_labels are float64; give whole numbers .* labels.astype"),
    "text labels": ({"train_labels": np.array(["a"] * 12)}, "np.unique"),
    "negative labels": ({"test_labels": np.full(6, -1)}, "test_labels hold -1, and classes are numbered from 0"),
    "one-hot labels": ({"test_labels": np.eye(6, 3)}, r"have shape 6×3; give one class number per image.*argmax"),
    "a gap": (
        {"train_labels": np.array([0, 5] * 6), "test_labels": np.zeros(6, int)},
        "no train image of class 1, 2, 3, 4",
    ),
    "a huge label": ({"train_labels": np.array([0, 2**40] * 6)}, "without gaps"),
    "only tested": ({"test_labels": np.array([0, 1, 2, 3, 3, 3])}, r"train has no image of: 3 \(3 test images\)"),
    "too few names": ({"class_names": np.array(["a", "b"])}, "has label 2, and class_names 2 names"),
    "a name too many": (
        {"class_names": np.array(list("abcd"))},
        r"no train image of class 3 \(d\).*leave its name out",
    ),
    "a single class": ({"train_labels": np.zeros(12, int), "test_labels": np.zeros(6, int)}, "has a single class"),
    "float64": ({"train_images": np.zeros((12, 3, 8, 8))}, r"train_images are float64; give uint8, uint16 or float32"),
    "objects": ({"train_images": np.array([None] * 12)}, "train_images is an array of Python objects"),
    "no images": ({"test_images": np.zeros((0, 3, 8, 8), np.uint8), "test_labels": np.zeros(0, int)}, "hold no images"),
    "no pixels": ({"test_images": np.zeros((6, 3, 0, 8), np.uint8)}, "an axis without pixels"),
    "vectors": ({"train_images": np.zeros((12, 192), np.uint8)}, r"have shape 12×192; give \[N, C, H, W\]"),
    "other test shape": (
        {"test_images": np.zeros((6, 1, 8, 8), np.uint8)},
        "train_images have shape 3×8×8, but test_images",
    ),
    "other test type": ({"test_images": np.zeros((6, 3, 8, 8), np.uint16)}, "have type uint8, but test_images uint16"),
}


@pytest.mark.parametrize(("change", "complaint"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_trained_on_is_refused_in_one_line(tmp_path, change, complaint):
    content = {name: value for name, value in {**arrays(), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=complaint) as error:
        describe(write(tmp_path / "x.npz", **content))
    assert "\n" not in str(error.value) and "x.npz" in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("limit", ["4", "0"])
def test_pixels_that_are_not_finite_are_refused_with_file_array_and_number(tmp_path, monkeypatch, value, split, limit):
    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", limit)
    content = arrays(dtype="float32")
    content[f"{split}_images"][5, 0, 0, 0] = value
    with pytest.raises(ValueError) as error:
        load(write(tmp_path / "x.npz", **content))
    assert str(error.value) == (
        f"dataset '{tmp_path}/x.npz': {split}_images: image #5 has pixels that are NaN or infinite; replace them"
    )


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        ((2,), "channel 2 has one value"),
        ((0, 2), "channels 0 and 2 have one value"),
        ((0, 1, 3), "channels 0, 1 and 3 have"),
    ],
)
def test_channels_that_never_vary_are_said(tmp_path, capfd, monkeypatch, channels, words):
    monkeypatch.setattr("vitbench.data.loading._SAID", set())
    pixels = arrays((4, 8, 8))
    for split in ("train", "test"):
        pixels[f"{split}_images"][:, channels] = 7
    for _ in range(2):
        data = load(write(tmp_path / "flat.npz", **pixels))
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"vitbench: {data.info.dataset}: {words}")
    tells = "tells nothing" if len(channels) == 1 else "tell nothing"
    assert line.endswith(f" one value in all training images, and {tells}")
    assert [std == 0 for std in data.std] == [channel in channels for channel in range(4)]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_training_images_of_a_single_colour_are_refused_in_one_line(tmp_path, dtype, channels):
    pixels = arrays((channels, 8, 8), dtype)
    pixels["train_images"][:] = 3
    for _ in range(2):  # from the cache too
        with pytest.raises(
            ValueError, match=r"^dataset 'x@.*': all training images are .* single colour.*; give other im"
        ):
            load(write(tmp_path / "x.npz", **pixels))


def test_test_images_that_are_the_training_images_are_refused(tmp_path):
    content = arrays()
    content["test_images"], content["test_labels"] = content["train_images"], content["train_labels"]
    with pytest.raises(ValueError, match="is tested on what it trains on"):
        find(write(tmp_path / "x.npz", **content), None)


def test_damage_is_refused_in_one_line(tmp_path):
    file = Path(write(tmp_path / "x.npz", **arrays()))
    whole = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        start = archive.getinfo("train_images.npy").header_offset
    for damaged, complaint in (
        (b"no zip at all", "is no .npz file"),
        (whole[: len(whole) // 2], "is no .npz file"),
        (whole[: start + 400] + bytes([whole[start + 400] ^ 1]) + whole[start + 401 :], "cannot be read.*Bad CRC"),
    ):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=complaint) as error:
            load(str(file))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_that_are_not_those_of_their_checksum_are_refused(tmp_path, save, order, split):
    """More than zipfile reads at once: the checksum is compared after the last image."""
    file = tmp_path / "x.npz"
    save(file, **{name: np.asarray(array, order=order) for name, array in arrays((3, 32, 32)).items()})
    with zipfile.ZipFile(file) as archive:
        checksum = archive.getinfo(f"{split}_images.npy").CRC.to_bytes(4, "little")
    file.write_bytes(file.read_bytes().replace(checksum, checksum[::-1]))
    with pytest.raises(ValueError, match=f"the {split} split of .* cannot be read .*Bad CRC.*; save it again"):
        load(str(file))


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("twin", ["train_labels.npy", "train_labels"])
def test_an_array_that_is_there_twice_is_refused(tmp_path, twin):
    """Which of both a reader takes is its own choice: numpy takes the last."""
    file = write(tmp_path / "x.npz", **arrays())
    with zipfile.ZipFile(file, "a") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr(twin, npy(np.zeros(12, int)))
    with pytest.raises(ValueError, match=r"x\.npz' holds train_labels twice; save it again"):
        describe(file)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("change", [lambda content: content[:-10], lambda content: content + bytes(10)])
def test_an_array_of_other_bytes_than_its_header_says_is_refused(tmp_path, change, split):
    file = tmp_path / "x.npz"
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays().items():
            content = npy(array)
            archive.writestr(f"{name}.npy", change(content) if name == f"{split}_images" else content)
    whole = len(npy(arrays()[f"{split}_images"]))
    said = f"{split}_images has {len(change(bytes(whole))):,} bytes, where its header says {whole:,}; save it again"
    with pytest.raises(ValueError, match=said):
        describe(str(file))


def test_a_compressed_file_above_the_cache_s_limit_is_refused_with_both_remedies(tmp_path, monkeypatch):
    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", "0")
    np.savez_compressed(tmp_path / "x.npz", **arrays())
    with pytest.raises(ValueError, match=r"has no random access.*raise VITBENCH_CACHE_LIMIT_GB"):
        load(str(tmp_path / "x.npz"))


def test_a_file_that_is_not_there_is_refused_with_the_nearest(tmp_path):
    write(tmp_path / "cells.npz", **arrays())
    with pytest.raises(ValueError, match=r"did you mean cells\.npz"):
        describe("cell.npz", root=tmp_path)
