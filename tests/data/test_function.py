"""Is what a function in FILE.py gives read as it is, named by source and content, or refused with its line?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vitbench.data import describe, function, load

ARRAYS = """
import numpy as np

def data():
    print("loading")
    rng = np.random.default_rng(0)  # fixed
    images = rng.integers(256, size=(20, 3, 8, 8), dtype=np.uint8)
    labels = np.arange(20) % 2
    return {"train": (images[:12], labels[:12]), "test": (images[12:], labels[12:]), "class_names": ["ant", "bee"]}
"""

DATASETS = """
import numpy as np, torch
from PIL import Image

class Kind(torch.utils.data.Dataset):
    def __init__(self, start, kind):
        rng = np.random.default_rng(0)
        self.pixels = rng.integers(256, size=(20, 8, 8, 3), dtype=np.uint8)
        self.rows, self.kind = range(start, start + 8), kind

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        image = self.pixels[self.rows[index]]
        if self.kind == "PIL":
            image = Image.fromarray(image)
        elif self.kind == "uint8":
            image = torch.from_numpy(image).permute(2, 0, 1)
        elif self.kind == "float":
            image = torch.from_numpy(image).permute(2, 0, 1) / 255
        return image, torch.tensor(index % 2) if self.kind == "float" else index % 2

def data():
    return Kind(0, KIND), Kind(8, KIND)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(ARRAYS)
    return tmp_path / "mine.py"


def test_arrays_are_read_as_they_are_and_prints_go_to_stderr(file, capsys):
    data = load(str(file))
    expected = np.random.default_rng(0).integers(256, size=(20, 3, 8, 8), dtype=np.uint8)
    assert np.array_equal(data.train.array, expected[:12]) and np.array_equal(data.test.array, expected[12:])
    assert data.class_names == ("ant", "bee") and data.test.labels.tolist() == [0, 1] * 4
    said = capsys.readouterr()
    assert said.out == "" and "loading" in said.err


@pytest.mark.parametrize("kind", ["PIL", "uint8", "float", "array"])
def test_datasets_give_the_same_pixels_whatever_their_items_are(tmp_path, kind):
    (tmp_path / "mine.py").write_text(DATASETS.replace("KIND", repr(kind)))
    data = load(str(tmp_path / "mine.py"))
    pixels = np.random.default_rng(0).integers(256, size=(20, 8, 8, 3), dtype=np.uint8).transpose(0, 3, 1, 2)
    unit = np.float32(255) if kind == "float" else 1
    assert np.array_equal(data.train.array, (pixels[:8] / unit).astype(data.info.dtype))
    assert np.array_equal(data.test.array, (pixels[8:16] / unit).astype(data.info.dtype))
    assert data.info.dtype == ("float32" if kind == "float" else "uint8")


def test_a_function_of_another_name_is_given_behind_a_colon(file):
    file.write_text(ARRAYS.replace("def data", "def cells"))
    assert describe(f"{file}:cells").dataset.startswith("mine:cells@")
    with pytest.raises(ValueError, match=r"has no function 'data'; it has cells: give FILE.py:NAME"):
        describe(str(file))
    with pytest.raises(ValueError, match=r"has no function 'cell'; did you mean cells\?"):
        describe(f"{file}:cell")


def test_comments_leave_the_name_and_reached_code_and_content_change_it(file):
    name = describe(str(file)).dataset
    assert name.startswith("mine@")
    for text, stays in (
        (ARRAYS.replace("# fixed", "# fixed, as it must be"), True),
        (ARRAYS + "\ndef not_reached():\n    return 1\n", True),
        (ARRAYS.replace("default_rng(0)", "default_rng(1)"), False),
        (ARRAYS.replace("np.arange(20) % 2", "np.arange(20) & 1"), False),  # the same arrays, by other code
    ):
        file.write_text(text)
        assert (describe(str(file)).dataset == name) is stays


def test_content_that_is_read_from_elsewhere_changes_the_name_in_the_next_process(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom pathlib import Path\ndef data():\n    rng = np.random.default_rng(0)\n"
        "    images = rng.random((20, 8, 8), np.float32) * np.float32(Path(__file__).with_name('gain').read_text())\n"
        "    labels = np.arange(20) % 2\n    return (images[:12], labels[:12]), (images[12:], labels[12:])\n"
    )
    code = "import sys; from vitbench.data import describe; print(describe(sys.argv[1]).dataset)"
    names = []
    for gain in ("1", "2", "1"):
        (tmp_path / "gain").write_text(gain)
        command = [sys.executable, "-c", code, str(tmp_path / "mine.py")]
        names.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert names[0] == names[2] != names[1]


def test_a_function_that_draws_without_a_seed_is_refused(file):
    file.write_text(ARRAYS.replace("default_rng(0)", "default_rng()"))
    with pytest.raises(ValueError, match="gives other images or labels at each call, so that no run could be repeated"):
        describe(str(file))


def test_it_is_called_twice_where_it_is_new_and_once_where_it_is_known(file, capsys):
    describe(str(file))
    assert capsys.readouterr().err.count("loading") == 2
    function._SOURCES.clear()
    load(str(file))
    assert capsys.readouterr().err.count("loading") == 1
    load(str(file))
    assert "loading" not in capsys.readouterr().err


def test_images_of_several_sizes_are_brought_to_one(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from PIL import Image\ndef split(first):\n"
        "    return [(Image.new('L', (first + n, 9), first + n), n % 2) for n in range(4)]\n"
        "def data():\n    return {'train': split(8), 'test': split(20)}\n"
    )
    data = load(str(tmp_path / "mine.py"), image_size=(6, 6))
    assert data.train.array[:, 0, 0, 0].tolist() == [8, 9, 10, 11] and data.info.image_size == (224, 224)


REFUSED = {
    "raises": ("def data():\n    return 1 / 0\n", "line 2 fails: ZeroDivisionError: division by zero"),
    "exits": ("def data():\n    raise SystemExit(3)\n", "line 2 fails: SystemExit: 3"),
    "imports what is not there": ("import no_such_package\n", "line 1 fails: ModuleNotFoundError"),
    "takes arguments": ("def data(root):\n    pass\n", "needs arguments .*'root'.*; give them defaults"),
    "gives nothing": ("def data():\n    pass\n", "gives NoneType; return a dict of train_images"),
    "gives no test": ("def data():\n    return {'train': ([[[1]]], [0])}\n", "gives no test_images"),
    "gives more": (
        "def data():\n    return {'train': [], 'test': [], 'class_name': []}\n",
        r"gives 'class_name', which is not used; did you mean class_names\?",
    ),
    "an empty dataset": ("def data():\n    return {'train': [], 'test': []}\n", r"data\(\): train holds no images"),
    "items of another form": ("def data():\n    return {'train': [1], 'test': []}\n", "items are .image, label."),
    "items that raise": (
        "class D:\n    def __len__(self):\n        return 2\n    def __getitem__(self, index):\n        return 1 / 0\n"
        "def data():\n    return D(), D()\n",
        "line 5 fails: ZeroDivisionError",
    ),
    "a lambda": ("data = lambda: 1\n", "is a lambda"),
    "the same images twice": (
        "import numpy as np\ndef data():\n    split = np.zeros((4, 8, 8), np.uint8), np.arange(4) % 2\n"
        "    return {'train': split, 'test': split}\n",
        "gives the same images for test as for train",
    ),
}


@pytest.mark.parametrize(("text", "complaint"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_with_it_is_told_in_one_line_with_the_file(tmp_path, text, complaint):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ValueError, match=complaint) as error:
        describe(str(tmp_path / "mine.py"))
    assert "\n" not in str(error.value) and "mine.py" in str(error.value)


def test_a_dataset_above_the_cache_s_limit_is_refused_with_remedies(tmp_path, monkeypatch):
    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", "0.000001")
    (tmp_path / "mine.py").write_text(DATASETS.replace("KIND", "'PIL'"))
    with pytest.raises(ValueError, match=r"keeps in memory; give a folder or an uncompressed FILE.npz, or raise"):
        describe(str(tmp_path / "mine.py"))


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ('"train": (images[:12], labels[:12])', "train_images: image #7"),
        ('"train": list(zip(images[:12], labels[:12]))', "train: image #7"),
    ],
)
def test_pixels_that_are_not_finite_are_refused_with_file_function_and_split(file, given, where):
    floats = ARRAYS.replace("labels = ", "images = images.astype(np.float32); images[7, 0, 0, 0] = np.nan; labels = ")
    file.write_text(floats.replace('"train": (images[:12], labels[:12])', given))
    with pytest.raises(ValueError) as error:
        load(str(file))
    assert str(error.value) == (
        f"data file '{file}': data(): {where} has pixels that are NaN or infinite; replace them"
    )
