"""Does each name stand for the right files, and is each bad one refused with a remedy?"""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.data.made_up_images import random_pixels, write_folder, write_tars
from vitbench.data import BUILT_IN, describe, load
from vitbench.data import description as description_module


def refusal(dataset, **options) -> str:
    with pytest.raises(ValueError) as error:
        load(dataset, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_importing_and_describing_load_no_torch():
    code = (
        "import sys, vitbench.data as data;"
        "data.describe('digits'), data.describe('shapes/quadrant'), data.describe('torch/cifar100');"
        "print([m for m in ('torch', 'timm', 'numpy', 'sklearn') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_describing_what_is_in_the_cache_opens_nothing(image_folder, monkeypatch):
    first = describe(str(image_folder))
    monkeypatch.setattr(description_module, "open_splits", lambda *_, **__: pytest.fail("opened again"))
    assert describe(str(image_folder)) == first


@pytest.mark.parametrize("dataset", sorted(BUILT_IN))
def test_built_in_sets_are_as_described(dataset):
    info, data = describe(dataset), load(dataset)
    assert data.info == info and info.dataset == dataset
    assert (len(data.train), len(data.test)) == (info.train_images, info.test_images)
    assert data.train.image_shape == (info.in_channels, *info.image_size)
    assert set(data.test.labels.tolist()) == set(range(info.num_classes))


def test_a_folder_is_described_from_its_files(image_folder):
    info = describe("pets", root=image_folder.parent)
    assert info.dataset.startswith("pets@") and len(info.dataset) == len("pets@") + 8
    assert info.model_dump(exclude={"dataset"}) == {
        "image_size": (12, 10),
        "in_channels": 3,
        "dtype": "uint8",
        "num_classes": 2,
        "train_images": 6,
        "test_images": 4,
        "crop_padding": 1,
        "flip": True,
        "size_step": 1,
        "class_counts": (3, 3),
    }


def test_grey_images_have_one_channel(tmp_path):
    folder = write_folder(tmp_path / "grey", random_pixels(shape=(8, 8)))
    assert describe(str(folder)).in_channels == 1
    assert load(str(folder)).train.image_shape == (1, 8, 8)


@pytest.mark.parametrize("odd", [(80, 80, 3), (12, 11, 3)])
def test_large_images_and_mixed_sizes_are_brought_to_224(tmp_path, odd):
    pixels = random_pixels()
    pixels["train/dog/2.png"] = np.zeros(odd, np.uint8)
    assert describe(str(write_folder(tmp_path / "mixed", pixels))).image_size == (224, 224)


def test_the_name_does_not_depend_on_the_place_but_on_the_list_of_files(tmp_path, image_folder):
    first = describe(str(image_folder)).dataset
    copy = shutil.copytree(image_folder, tmp_path / "elsewhere" / "pets")
    assert describe(str(copy)).dataset == first
    assert describe("pets", root=copy.parent).dataset == first
    (copy / "train/cat/0.png").rename(copy / "train/cat/7.png")
    assert describe(str(copy)).dataset != first


def test_the_name_of_a_tar_changes_with_its_size(tmp_path):
    first = describe(str(write_tars(tmp_path / "a" / "pets", random_pixels()))).dataset
    second = describe(str(write_tars(tmp_path / "b" / "pets", random_pixels(train=30)))).dataset
    assert first.startswith("pets@") and second.startswith("pets@") and first != second


def test_a_recorded_name_is_found_again_and_refused_once_files_have_changed(image_folder):
    name = describe(str(image_folder)).dataset
    assert load(name, root=image_folder.parent).info.dataset == name
    (image_folder / "train/cat/0.png").unlink()
    assert "its files have changed; give it as 'pets'" in refusal(name, root=image_folder.parent)


@pytest.mark.parametrize("split", ["val", "validation"])
def test_validation_serves_as_test_where_there_is_no_test(image_folder, split):
    (image_folder / "test").rename(image_folder / split)
    assert describe(str(image_folder)).test_images == 4


def test_an_unknown_name_is_refused_with_the_closest_one():
    message = refusal("digit")
    assert "dataset 'digit' is neither known nor a folder" in message and "did you mean digits?" in message
    assert "did you mean torch/cifar10?" in refusal("cifar10")
    assert "did you mean torch/fashion_mnist?" in refusal("torch/fashionmnist")
    assert "torch/cifar10, torch/cifar100" in refusal("torch/svhn")
    assert "neither known" in refusal("")
    assert refusal("cifar10@c637c7f8").endswith("its folder is not known here; give it as --data FOLDER")


def test_torch_s_image_folder_is_refused_because_it_has_no_test_split(tmp_path):
    assert "give the folder's path" in refusal("torch/image_folder", root=tmp_path)


def test_a_missing_root_is_refused(tmp_path):
    assert refusal("pets", root=tmp_path / "none").endswith("give the one that holds the data as --data-root")


def test_a_torch_set_that_is_not_there_is_refused_with_both_remedies(tmp_path):
    message = refusal("torch/cifar10", root=tmp_path)
    assert "is not under data root" in message and "--data-root" in message and "--download" in message


def test_a_torch_set_of_another_length_is_refused(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train", "t10k"):
        # idx: magic number, then sizes, big-endian (Le Cun's description of MNIST).
        header = np.array([0x803, 3, 28, 28], dtype=">i4").tobytes()
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + bytes(3 * 784))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(np.array([0x801, 3], dtype=">i4").tobytes() + b"\0\1\2")
    assert "has 3 train and 3 test images here, not 60000 and 10000" in refusal("torch/fashion_mnist", root=tmp_path)


def test_an_empty_folder_and_a_missing_split_are_refused(tmp_path, image_folder):
    (tmp_path / "empty").mkdir()
    assert "has no train split" in refusal(str(tmp_path / "empty")) and "holds nothing"
    shutil.rmtree(image_folder / "test")
    message = refusal(str(image_folder))
    assert "has no test split" in message and "test/ or test.tar or val/" in message


def test_a_split_without_images_is_refused(image_folder):
    for file in image_folder.glob("test/*/*.png"):
        file.unlink()
    assert "the test split of 'pets@" in refusal(str(image_folder))
    assert "holds no images" in refusal(str(image_folder))


def test_a_file_that_is_no_tar_is_refused(tmp_path):
    folder = write_tars(tmp_path / "pets", random_pixels())
    (folder / "test.tar").write_bytes(b"x" * 2000)
    assert "the test split of 'pets@" in refusal(str(folder))


@pytest.mark.parametrize("write", [write_folder, write_tars])
def test_class_folders_that_differ_are_refused_by_name(tmp_path, write):
    pixels = random_pixels()
    pixels["train/emu/0.png"] = pixels["train/cat/0.png"]
    assert "other class folders in train than in test: emu" in refusal(str(write(tmp_path / "pets", pixels)))


def test_a_single_class_is_refused(tmp_path):
    folder = write_folder(tmp_path / "pets", random_pixels(classes=("cat",)))
    assert "has a single class, 'cat'" in refusal(str(folder))


def test_images_outside_class_folders_are_refused(tmp_path):
    pixels = random_pixels()
    pixels["train/0.png"] = pixels["train/cat/0.png"]
    assert "images outside class folders" in refusal(str(write_folder(tmp_path / "pets", pixels)))


@pytest.mark.parametrize(
    ("dataset", "package"),
    [("hfds/mnist", "datasets"), ("tfds/mnist", "tensorflow-datasets"), ("wds/mnist", "webdataset")],
)
def test_a_reader_whose_package_is_missing_says_what_to_install(dataset, package, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = refusal(dataset)
    assert message.startswith(f"dataset '{dataset}' needs a package") and message.endswith(package)


class FakeReader:
    """Stands for timm's hfds reader: random access, no file names, an unlabelled test split."""

    def __init__(self, folder, labelled):
        self.files = sorted(folder.rglob("*.png"))
        self.labelled = labelled

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return self.files[index].open("rb"), index % 2 if self.labelled else -1


def test_a_hub_set_whose_test_split_is_unlabelled_takes_validation(image_folder, monkeypatch):
    from timm.data.dataset import ImageDataset

    def create(name, root, split, **options):
        return ImageDataset(root, reader=FakeReader(image_folder / "train", labelled=split != "test"))

    monkeypatch.setattr("timm.data.dataset_factory.create_dataset", create)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    data = load("hfds/owner/pets", root=image_folder.parent)
    assert data.info.dataset == "hfds/owner/pets" and data.test.labels.tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("missing", [0, 1])
def test_an_iterable_set_is_cached_and_refused_when_images_are_skipped(image_folder, monkeypatch, missing):
    from timm.data.dataset import IterableImageDataset

    files = sorted((image_folder / "train").rglob("*.png"))

    class Reader:
        def __iter__(self):
            for index, file in enumerate(files[missing:]):
                with Image.open(file) as image:
                    yield image.copy(), index % 2

        def __len__(self):
            return len(files)

    monkeypatch.setattr(
        "timm.data.dataset_factory.create_dataset", lambda name, **_: IterableImageDataset("", reader=Reader())
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    if missing:
        assert "gave 5 images instead of 6" in refusal("wds/pets", root=image_folder.parent)
        return
    data = load("wds/pets", root=image_folder.parent)
    stored = np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])
    assert np.array_equal(data.train.array, stored)
    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", "0")
    assert "has no random access" in refusal("wds/pets", root=image_folder.parent)
