"""Do classes, images and their order follow from names alone, and is what has no one meaning refused by name?"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import random
import shutil
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from tests.data.made_up_images import random_pixels, write_folder, write_tars
from vitbench.data import describe, load
from vitbench.data import loading as loading_module
from vitbench.data.listing import EXTENSIONS, list_split, natural_key
from vitbench.data.opening import open_splits
from vitbench.data.sources import find

PNG = io.BytesIO()
Image.new("RGB", (4, 4), "red").save(PNG, "PNG")


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PNG.getvalue())
    return root


def member(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(PNG.getvalue()) if kind == tarfile.REGTYPE else 0
    return info


def pack(path: Path, *members: tarfile.TarInfo | str, **options: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for info in members:
            info = member(info) if isinstance(info, str) else info
            tar.addfile(info, io.BytesIO(PNG.getvalue()) if info.isreg() else None)
    return path


def names_of(path: Path) -> list[str]:
    return [file.name for file in list_split(str(path)).files]


def refusal(call: Callable[..., object], path: Path) -> str:
    with pytest.raises(ValueError) as error:
        call(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The lines on stderr since the last call, as a new process would say them."""

    def lines() -> list[str]:
        monkeypatch.setattr(loading_module, "_SAID", set())
        return capfd.readouterr().err.splitlines()

    return lines


TIES = ("a1", "a01", "A1", "a001", "a10", "a2")


def test_names_that_sort_alike_have_one_order_however_they_were_written(tmp_path):
    names = [f"{label}/{image}.png" for label in TIES for image in TIES]
    orders = []
    for seed in range(4):
        random.Random(seed).shuffle(names)
        tar = pack(tmp_path / f"{seed}.tar", *names)
        folder = put(tmp_path / str(seed), *names)
        orders += [(names_of(path), list_split(str(path)).classes()) for path in (tar, folder)]
    assert all(order == orders[0] for order in orders)
    assert orders[0][1] == ["A1", "a001", "a01", "a1", "a2", "a10"]


def test_natural_order_is_timm_s_where_that_is_one(tmp_path):
    from timm.utils.misc import natural_key as by_timm

    rng = random.Random(0)
    names = {"".join(rng.choices("abCD019_/. -", k=8)) + str(i) for i in range(2000)}
    names = {str(by_timm(name)): name for name in names}.values()
    assert sorted(names, key=natural_key) == sorted(names, key=by_timm)


@pytest.mark.parametrize("digits", ["10²", "٣", "1" * 5000])
def test_any_digits_can_be_sorted(digits):
    assert sorted([f"b{digits}", f"a{digits}"], key=natural_key) == [f"a{digits}", f"b{digits}"]


def test_a_class_of_a_raised_digit_holds_its_images(tmp_path):
    folder = write_folder(tmp_path / "powers", random_pixels(classes=("10²", "10³")))
    assert describe(str(folder)).train_images == 6


@pytest.mark.against("torchvision", "the class of each image is the folder below the split", "exact")
def test_the_class_is_the_folder_below_the_split_and_deeper_folders_are_said(tmp_path, said):
    pixels = random_pixels(train=2)
    pixels["train/cat/siamese/1/9.png"] = pixels["train/dog/tabby/9.png"] = pixels["train/cat/0.png"]
    data = load(str(write_folder(tmp_path / "pets", pixels)))
    expected = ImageFolder(str(tmp_path / "pets" / "train"))
    assert expected.classes == ["cat", "dog"] and sorted(data.train.labels) == sorted(expected.targets)
    assert [line.partition(": ")[2] for line in said()] == [
        f"the train split of {data.info.dataset!r}: folders below a class count as that class: "
        "'siamese/1/9.png' is of class 'cat'"
    ]


LITTER = (".ipynb_checkpoints/0.png", "__MACOSX/cat/0.png", "@eaDir/0.png", ".trash/0.png", "cat/._0.png")
LITTER += ("cat/.ipynb_checkpoints/0-checkpoint.png", "cat/Thumbs.db", "cat/.DS_Store", "dog/desktop.ini")


@pytest.mark.parametrize("write", [put, lambda root, *names: pack(root.with_suffix(".tar"), *names)])
def test_what_systems_and_editors_leave_behind_is_no_class_and_no_image(tmp_path, write):
    clean = ("cat/0.png", "dog/0.png")
    listing = list_split(str(write(tmp_path / "train", *LITTER, *clean)))
    assert [file.name for file in listing.files] == list(clean)
    assert (listing.unused, listing.empty, listing.classes()) == ([], [], ["cat", "dog"])


def test_all_that_pillow_decodes_by_itself_is_an_image():
    Image.init()
    # Drawn by other programs; known by name alone; written and not read.
    others = {"EPS", "WMF"} | {"BUFR", "GRIB", "HDF5", "MPEG"} | {"PALM", "PDF"}
    known = {ending[1:] for ending, format in Image.registered_extensions().items() if format not in others}
    assert known == EXTENSIONS


@pytest.mark.parametrize("ending", ["PNG", "Jpg", "webp", "bmp", "tif", "gif", "tga", "ppm"])
def test_images_of_every_usual_format_are_read(tmp_path, ending):
    picture = Image.fromarray(np.random.default_rng(0).integers(256, size=(6, 5, 3), dtype=np.uint8))
    picture = picture.quantize(16).convert("RGB")  # so that GIF keeps its colours
    options = {"webp": {"lossless": True}, "Jpg": {"quality": 100, "subsampling": 0}}.get(ending, {})
    for name in ("train/a/0", "train/b/0", "test/a/0", "test/b/0"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / f"{name}.{ending}", **options)
    pixels = load(str(tmp_path)).train.array[0].transpose(1, 2, 0).astype(int)
    assert np.abs(pixels - np.asarray(picture).astype(int)).max() <= (12 if ending == "Jpg" else 0)


def test_files_that_are_not_read_and_folders_without_images_are_said_in_every_process(image_folder, said):
    for name in ("train/cat/notes.txt", "train/dog/a.heic", "test/labels.csv"):
        (image_folder / name).write_text("")
    (image_folder / "train" / "emu").mkdir()
    os.mkfifo(image_folder / "test" / "cat" / "queue")
    name = describe(str(image_folder)).dataset
    for _ in range(2):
        load(str(image_folder))
        assert said() == [
            f"vitbench: the train split of {name!r}: 2 files are not read as images, the first is 'cat/notes.txt'",
            f"vitbench: the train split of {name!r}: 1 folder holds no images, the first is 'emu'",
            f"vitbench: the test split of {name!r}: 2 files are not read as images, the first is 'cat/queue'",
        ]
    (image_folder / "train/cat/late.txt").write_text("")
    load(str(image_folder))
    assert "3 files are not read as images, the first is 'cat/late.txt'" in said()[0]


def test_a_link_to_a_folder_or_file_elsewhere_is_followed(tmp_path):
    store = put(tmp_path / "store", "1.png", "2.png")
    train = put(tmp_path / "train", "dog/0.png")
    (train / "cat").symlink_to(store)
    (train / "dog" / "1.png").symlink_to(store / "1.png")
    assert names_of(train) == ["cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png"]


@pytest.mark.parametrize("place", ["a/loop", "loop", "a/b/c"])
@pytest.mark.parametrize("to", [".", "a", "b"])
def test_a_folder_that_is_reached_twice_is_refused_by_name(tmp_path, place, to):
    train = put(tmp_path / "train", "a/0.png", "b/0.png")
    (train / place).parent.mkdir(exist_ok=True)
    (train / place).symlink_to((train / to).resolve())
    message = refusal(list_split, train)
    assert "once more, by a link" in message and "remove the link" in message


def test_a_link_to_itself_or_to_nothing_is_refused_by_name(tmp_path):
    train = put(tmp_path / "train", "a/0.png", "b/0.png")
    for name, to in (("emu", "emu"), ("emu", "/none"), ("a/1.png", "1.png"), ("a/1.png", "gone.png")):
        (train / name).symlink_to(to)
        assert f"link '{train / name}' leads nowhere" in refusal(list_split, train)
        (train / name).unlink()


@pytest.mark.parametrize("name", ["README", "a/notes.txt", "a/b/LICENSE"])
def test_a_link_to_nothing_that_is_named_like_no_image_and_no_class_is_noted_as_other_files_are(tmp_path, name):
    train = put(tmp_path / "train", "a/0.png", "a/b/0.png")
    (train / name).symlink_to("/nowhere")
    tar = pack(tmp_path / "train.tar", "a/0.png", "b/0.png", member(name, kind=tarfile.SYMTYPE, link="/nowhere"))
    for path in (train, tar):
        assert list_split(str(path)).unused == [name]


def test_a_link_to_nothing_beside_a_set_of_torchvision_is_no_hindrance(tmp_path):
    before = find("torch/places365", tmp_path).fingerprint
    (tmp_path / "README").symlink_to("/nowhere")
    assert find("torch/places365", tmp_path).fingerprint != before


def test_pipes_and_sockets_named_like_images_are_refused_and_not_opened(image_folder):
    pipe = image_folder / "train/cat/pipe.png"
    os.mkfifo(pipe)
    assert refusal(load, image_folder) == f"image {str(pipe)!r} is a pipe; remove it"
    pipe.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(pipe))
        assert refusal(load, image_folder) == f"image {str(pipe)!r} is a socket; remove it"


def test_a_folder_named_like_an_image_is_a_folder(tmp_path):
    assert names_of(put(tmp_path, "x.png/0.png", "y/z.png/0.png")) == ["x.png/0.png", "y/z.png/0.png"]


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (0, "folder '{}' cannot be listed (Permission denied); mend or remove it"),
        (0o444, "file '{}/0.png' may not be looked at (Permission denied); make it readable"),
    ],
)
def test_a_folder_that_may_not_be_read_is_refused_by_name(unreadable, image_folder, mode, says):
    locked = image_folder / "train" / "cat"
    with unreadable(locked, mode):
        message = refusal(describe, image_folder)
    assert message == says.format(locked)


@pytest.mark.parametrize("prefix", ["", "./", "train/", "./train/", "/data/train/", "home/me/train/"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_folders_that_all_images_of_a_tar_share_are_no_classes(tmp_path, prefix, format):
    names = [f"{prefix}dog/1.png", f"{prefix}cat/ü.png", f"{prefix}cat/10.png", f"{prefix}cat/9.png"]
    tar = pack(tmp_path / "train.tar", *names, format=format)
    assert names_of(tar) == ["cat/9.png", "cat/10.png", "cat/ü.png", "dog/1.png"]


def test_long_names_of_a_tar_are_whole(tmp_path):
    names = [f"{label}/{'x' * 300}{i}.png" for label in ("a", "b") for i in range(2)]
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert names_of(pack(tmp_path / "train.tar", *names, format=format)) == names


def test_links_within_a_tar_are_followed_and_others_are_refused(tmp_path):
    links = [
        member("train/dog/1.png", kind=tarfile.SYMTYPE, link="../cat/0.png"),
        member("train/dog/2.png", kind=tarfile.LNKTYPE, link="train/cat/0.png"),
        member("train/dog/3.png", kind=tarfile.SYMTYPE, link="2.png"),
    ]
    tar = pack(tmp_path / "train.tar", *links, "train/cat/0.png")
    assert names_of(tar) == ["cat/0.png", "dog/1.png", "dog/2.png", "dog/3.png"]
    assert len({(file.offset, file.size) for file in list_split(str(tar)).files}) == 1
    for name, to in (("b/1.png", "gone.png"), ("b/1.png", "/a/0.png"), ("b/1.png", "1.png"), ("c", "a")):
        link = member(name, kind=tarfile.SYMTYPE, link=to)
        assert f"{name!r} is a link" in refusal(list_split, pack(tmp_path / "train.tar", "a/0.png", link))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (("a/0.png", "b/0.png", "./a/0.png"), "'a/0.png' is in it twice"),
        (("a/0.png", "b/../../0.png"), "'b/../../0.png' leads out of it"),
        (("a/0.png", member("b/0.png", kind=tarfile.FIFOTYPE)), "'b/0.png' is no file"),
        (("a/0.png", member("b/0.png", kind=tarfile.CHRTYPE)), "'b/0.png' is no file"),
    ],
)
def test_members_without_one_meaning_are_refused_by_name(tmp_path, members, reason):
    tar = pack(tmp_path / "train.tar", *members)
    assert refusal(list_split, tar) == f"tar {str(tar)!r} cannot be listed ({reason}); mend or make it again"


def test_a_tar_of_tars_has_a_class_for_each(tmp_path):
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        for label in ("b", "a"):
            tar.add(pack(tmp_path / f"{label}.tar", "1.png", "0.png"), f"{label}.tar")
    listing = list_split(str(tmp_path / "train.tar"))
    assert [file.name for file in listing.files] == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
    content = (tmp_path / "train.tar").read_bytes()
    assert all(content[file.offset :].startswith(PNG.getvalue()) for file in listing.files)


def test_a_damaged_tar_never_loses_images_in_silence(tmp_path):
    tar = pack(tmp_path / "train.tar", "a/0.png", "a/1.png", "b/0.png", "b/1.png")
    whole, block = tar.read_bytes(), 512
    for place in (2 * block, 4 * block):  # headers: each image takes two blocks
        tar.write_bytes(whole[:place] + b"?" + whole[place + 1 :])
        assert f"its entry at byte {place:,} is damaged" in refusal(list_split, tar)
    for length in range(0, 9 * block, 100):
        tar.write_bytes(whole[:length])
        assert "cannot be listed" in refusal(list_split, tar)
    tar.write_bytes(whole + whole)
    assert "tars are not joined by `cat`" in refusal(list_split, tar)


@pytest.mark.parametrize("program", [gzip, bz2, lzma])
def test_a_compressed_tar_is_refused_as_such(tmp_path, program):
    compressed = program.compress(pack(tmp_path / "cat.tar", "0.png").read_bytes())
    (tmp_path / "cat.tar").write_bytes(compressed)
    assert "(it is compressed by" in refusal(list_split, tmp_path / "cat.tar")
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        tar.add(tmp_path / "cat.tar", "cat.tar")
    assert "('cat.tar' in it is compressed by" in refusal(list_split, tmp_path / "train.tar")


@pytest.mark.parametrize("write", [write_folder, write_tars])
def test_a_folder_beside_a_flat_test_serves_and_the_choice_is_said(tmp_path, write, said):
    pixels = random_pixels()
    pixels |= {f"val/{name.partition('/')[2]}": pixels[name] for name in pixels if name.startswith("test")}
    write_folder(tmp_path / "pets", {name: array for name, array in pixels.items() if name.startswith("val")})
    data = load(str(write(tmp_path / "pets", pixels)))
    entry = "test" if write is write_folder else "test.tar"
    assert said() == [f"vitbench: {data.info.dataset}: the test split is {entry!r}; 'val' is not used"]
    flat = {name: array for name, array in pixels.items() if name.startswith("train")} | {
        "test/0.png": pixels["test/cat/0.png"]
    }
    for file in (tmp_path / "pets" / "test").rglob("*.png"):
        file.unlink()
    data = load(str(write(tmp_path / "pets", flat)))
    assert said() == [f"vitbench: {data.info.dataset}: the test split is 'val'; {entry!r} has no class folders"]
    assert len(data.test) == 4


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_tar_beside_a_folder_of_its_name_is_said(tmp_path, split, said):
    folder = write_tars(tmp_path / "pets", random_pixels())
    write_folder(folder, {name: array for name, array in random_pixels().items() if name.startswith(split)})
    name = load(str(folder)).info.dataset
    assert said() == [f"vitbench: {name}: the {split} split is {split!r}; '{split}.tar' is not used"]


@pytest.mark.parametrize(
    ("link", "to", "says"),
    [
        ("test", "train", "'test' is 'train', by a link"),
        (
            "train/cat/more",
            "test/cat",
            "on 2 of the files that it trains on, by links: 'test/cat/0.png' is 'train/cat/more/0",
        ),
        (
            "test/dog/9.png",
            "train/dog/1.png",
            "on 1 of the files that it trains on, by links: 'test/dog/9.png' is 'train/dog/1",
        ),
    ],
)
def test_files_that_links_put_in_both_splits_are_refused_by_name(image_folder, link, to, says):
    if link == "test":
        shutil.rmtree(image_folder / "test")
    (image_folder / link).symlink_to(image_folder / to)
    assert says in refusal(load, image_folder)


def test_a_tar_that_is_both_splits_is_refused(tmp_path):
    folder = write_tars(tmp_path / "pets", random_pixels())
    (folder / "test.tar").unlink()
    (folder / "test.tar").hardlink_to(folder / "train.tar")
    assert "'test.tar' is 'train.tar', by a link" in refusal(load, folder)


def test_a_file_that_has_several_names_is_said(image_folder, said):
    (image_folder / "train/cat/8.png").hardlink_to(image_folder / "train/cat/1.png")
    (image_folder / "train/dog/9.png").symlink_to("1.png")
    name = describe(str(image_folder)).dataset
    assert len(load(str(image_folder)).train) == 8
    assert said() == [
        f"vitbench: the train split of {name!r}: 2 files count once more under another name, by links, the first is "
        "'cat/8.png'"
    ]


def test_classes_that_would_be_printed_alike_are_told_apart(tmp_path):
    names = ("a b", "a\tb", "a\nb")
    folder = write_folder(tmp_path / "pets", random_pixels(classes=names))
    assert sorted(load(str(folder)).class_names) == ["a b", r"a\nb", r"a\tb"]
    shutil.rmtree(folder / "test" / "a\tb")
    assert r"other class folders in train than in test: 'a\tb'; give" in refusal(load, folder)


def test_classes_that_look_alike_are_told_with_escapes(tmp_path):
    folder = write_folder(tmp_path / "pets", random_pixels(classes=("caf\u00e9", "dog")))
    (folder / "test" / "caf\u00e9").rename(folder / "test" / "cafe\u0301")
    assert r"in train than in test: 'cafe\u0301', 'caf\xe9'; give" in refusal(load, folder)


def test_names_that_are_not_utf_8_are_read_and_can_be_printed(tmp_path):
    folder = write_folder(tmp_path / os.fsdecode(b"p\xe9ts"), random_pixels())
    assert describe(str(folder)).dataset.startswith("p\\udce9ts@")
    for split in ("train", "test"):
        (folder / split / "cat").rename(folder / split / os.fsdecode(b"caf\xe9"))
    train, _ = open_splits(find(str(folder), None), download=False)
    assert train.class_names() == ["caf\\udce9", "dog"] and len(load(str(folder)).train) == 6
    (folder / "train" / os.fsdecode(b"caf\xe9") / "0.png").write_bytes(b"broken")
    assert "image 'caf\\udce9/0.png' of the train split" in refusal(load, folder)


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("~no such user/pets", "^path '~no such user/pets' begins with a home folder that is not known; write it out$"),
        ("x" * 5000, r"^dataset 'x*' cannot be looked at \(File name too long.*\); give a folder .*$"),
    ],
)
def test_a_place_that_cannot_be_looked_at_is_refused_in_one_line(dataset, said):
    with pytest.raises(ValueError, match=said):
        describe(dataset)


def test_a_folder_of_data_that_may_not_be_read_is_refused_in_one_line(tmp_path, monkeypatch):
    def forbidden(self: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", forbidden)
    message = refusal(describe, tmp_path / "pets")
    assert message.endswith(f"(Permission denied: {str(tmp_path / 'pets')!r}); give a folder that can be read")


@pytest.mark.parametrize("ending", ["webp", "TIFF", "bmp", "Gif", "ppm", "jp2", "avif", "tga"])
def test_formats_give_the_picture_that_was_written(tmp_path, ending):
    for name, level in (("train/a/1", 77), ("train/b/1", 177), ("test/a/1", 77), ("test/b/1", 177)):
        grey = Image.fromarray(np.full((8, 8), level, np.uint8)).convert("RGB")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        format = {"webp": "WEBP", "jp2": "JPEG2000", "gif": "GIF", "tga": "TGA"}.get(ending.lower(), ending.upper())
        try:
            grey.save(tmp_path / f"{name}.{ending}", format, **({"lossless": True} if format == "WEBP" else {}))
        except (OSError, KeyError) as error:
            pytest.skip(f"this Pillow writes no {ending}: {error}")
    data = load(str(tmp_path))
    written = np.array([77, 177]).reshape(2, 1, 1, 1)
    assert np.abs(data.train.array.astype(int) - written).max() <= (2 if ending == "avif" else 0)
