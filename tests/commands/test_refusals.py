"""Is every wrong request refused in one line that helps, before anything is trained or written?"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from vitbench.records import RecordStore

RUN = ("run", "pooling", "--budget", "smoke", "--device", "cpu", "--precision", "fp32")
TRAIN = ("train", "Nano/2", "--device", "cpu", "--precision", "fp32")
PLAN = ("plan", "pooling", "--budget", "smoke")

WRONG = {
    "unknown study": (("run", "poling"), "did you mean pooling?"),
    "unknown study in a plan": (("plan", "poling"), "did you mean pooling?"),
    "study file that is missing": (("run", "mine.py"), "does not exist"),
    "unknown variant": (("train", "Bb/16"), "unknown variant 'Bb/16'"),
    "unknown variant of a study": ((*RUN, "--variant", "Huge"), "unknown variant 'Huge'"),
    "unknown data set": ((*RUN, "--data", "digit"), "did you mean digits?"),
    "unknown data set of train": ((*TRAIN, "--data", "nothing-like-it"), "neither known nor a folder"),
    "unknown torchvision set": ((*RUN, "--data", "torch/cifar11"), "torch/cifar10"),
    "no data set of its own": (("run", "pooling", "--budget", "paper"), "--data"),
    "patch that does not divide": ((*TRAIN, "--patch-size", "3"), "patch_size 3 does not divide image_size 8"),
    "variant's patch that does not divide": (("train", "Nano/16"), "patch_size 16 does not divide image_size 8"),
    "study's patch that does not divide": ((*RUN, "--variant", "Nano/3"), "patch_size 3 does not divide"),
    "heads that do not divide": ((*TRAIN, "--num-heads", "5"), "num_heads 5 does not divide width 32"),
    "relative at the stem": ((*TRAIN, "--position", "relative"), "position_site 'stem' has no meaning"),
    "unknown pool": ((*TRAIN, "--pool", "mean"), "pool 'mean'"),
    "width that is no number": ((*TRAIN, "--width", "wide"), "width 'wide'"),
    "size that is no size": ((*TRAIN, "--image-size", "8x8x8"), "image_size"),
    "learning rate of 0": ((*TRAIN, "--learning-rate", "0"), "learning_rate"),
    "learning rate below 0": ((*RUN, "--learning-rate", "-1"), "learning_rate"),
    "learning rate that is no number": ((*TRAIN, "--learning-rate", "nan"), "learning_rate"),
    "epochs of 0": ((*RUN, "--epochs", "0"), "epochs 0"),
    "no training images": ((*RUN, "--train-images", "0"), "train_images 0"),
    "more training images than there are": ((*TRAIN, "--train-images", "5000"), "train_images 5000 is more than"),
    "unknown precision": ((*RUN, "--precision", "fp8"), "precision 'fp8'"),
    "unknown optimizer": ((*TRAIN, "--optimizer", "adamx"), "optimizer 'adamx' is not one of timm's"),
    "odd batch that is to be mixed": ((*TRAIN, "--mixup", "0.2", "--batch-size", "63"), "batch_size 63 is odd"),
    "other number of classes": ((*TRAIN, "--num-classes", "7"), "num_classes 7 does not fit digits"),
    "other number of channels": ((*TRAIN, "--in-channels", "3"), "in_channels 3 does not fit digits"),
    "data root that is missing": ((*RUN, "--data", "torch/cifar10", "--data-root", "nowhere"), "'nowhere'"),
    "unknown device": (("run", "pooling", "--budget", "smoke", "--device", "tpu"), "device 'tpu' is not known"),
    "no micro-batch": ((*RUN, "--micro-batch", "0"), "micro_batch '0' is no number of images; give 1 or more, or auto"),
    "micro-batch that is no number": ((*TRAIN, "--micro-batch", "all"), "micro_batch 'all'"),
    "micro-batch below 0": ((*TRAIN, "--micro-batch", "-4"), "micro_batch '-4'"),
    "micro-batch of a model with BatchNorm": (
        (*TRAIN, "--patch-size", "4", "--stem", "conv", "--stem-width", "8", "--micro-batch", "16"),
        "has stem (BatchNorm2d)",
    ),
    "micro-batch of a study with such an arm": (("run", "hybrid", *RUN[2:], "--micro-batch", "16"), "(BatchNorm2d)"),
    "checkpoints all the time": ((*RUN, "--checkpoint-minutes", "0"), "checkpoint_minutes 0"),
    "checkpoints never": ((*TRAIN, "--checkpoint-minutes", "inf"), "checkpoint_minutes inf"),
    "memory of an unknown device": ((*PLAN, "--device", "tpu"), "device 'tpu' is not known"),
    "no jobs": ((*RUN, "--jobs", "0"), "jobs '0'"),
    "jobs that are no number": ((*RUN, "--jobs", "many"), "jobs 'many'"),
    "jobs below 0": ((*RUN, "--jobs", "-1"), "jobs '-1'"),
    "unknown field to tune": ((*RUN, "--tune", "weight_dcay=0.1"), "did you mean weight_decay?"),
    "unknown field to tune in a plan": ((*PLAN, "--tune", "weight_dcay=0.1"), "did you mean weight_decay?"),
    "values to tune that are no numbers": ((*RUN, "--tune", "weight_decay=much"), "'much' is not a number"),
    "tuning without values": ((*RUN, "--tune", "weight_decay"), "weight_decay=0.01,0.05"),
    "tuning what arms differ in": ((*RUN, "--tune", "pool=1"), "the arms of study 'pooling' differ in it"),
    "tuning a name": ((*RUN, "--tune", "stem=1"), "tune 'stem': its values are no numbers"),
    "tuning the learning rate": ((*RUN, "--tune", "learning_rate=1"), "--learning-rate"),
    "tuning out of range": ((*RUN, "--tune", "drop_path=0,1.5"), "drop_path 1.5"),
    "more seeds to tune on than there are": ((*RUN, "--seeds", "2", "--tune-seeds", "3"), "tune_seeds 3 is not among"),
    "tuning to a batch larger than the data": ((*RUN, "--tune", "batch_size=64,4096"), "batch_size 4096 is more than"),
    "tuning what changes time": ((*RUN, "--match", "time", "--tune", "batch_size=32,64"), "tune 'batch_size' changes"),
    "unknown study, to be run again": (("run", "poling", "--again"), "did you mean pooling?"),
    "unknown device to run again on": ((*RUN[:4], "--again", "--device", "tpu"), "device 'tpu' is not known"),
    "unknown match": ((*RUN, "--match", "steps"), "match 'steps' is not known; use epochs, flops, time"),
    "batch larger than the data": ((*RUN, "--batch-size", "300"), "batch_size 300 is more than the 256"),
    "batch larger than the data of train": ((*TRAIN, "--batch-size", "2000"), "batch_size 2000 is more than the 1078"),
    "nothing left to train on": (
        (*TRAIN, "--validation-fraction", "0.9999"),
        "validation_fraction 0.9999 leaves 10 of the",
    ),
    "a batch larger than what is left": (
        (*TRAIN, "--validation-fraction", "0.95"),
        "validation_fraction 0.95 leaves 60 of the 1198 images to train on, fewer than batch_size 128; make it smaller",
    ),
    "a batch larger than the data, and a large validation split": (
        (*TRAIN, "--validation-fraction", "0.5", "--batch-size", "2000"),
        "batch_size 2000 is more than the 599",
    ),
    "no epochs of few images": (
        (*TRAIN, "--epochs", "0", "--train-images", "20"),
        "epochs 0 evaluates what was drawn from the seed",
    ),
    "built-in images that no memory holds": (
        ("train", "Ti/16", "--image-size", "1000000"),
        "image_size 1000000×1000000 makes 3,594,000 GB of 'digits'",
    ),
    "crops of nothing": ((*TRAIN, "--crop-padding", "9"), "crop_padding 9 is more than image_size 8"),
    "too many jobs": ((*RUN, "--jobs", "100000"), "jobs '100000' is not a number from 1 to 1024"),
    "jobs in superscript": ((*RUN, "--jobs", "²"), "jobs '²' is not a number"),
    "epochs without end": ((*RUN, "--epochs", "1e300"), "epochs 1e+300"),
    "figures of what is no run": (("figures", "abc"), "run 'abc' is neither timm:NAME, nor a run_id"),
}
LEFT_TO_TYPER = {
    "unknown budget": ("run", "pooling", "--budget", "huge"),
    "unknown executor": (*RUN, "--executor", "slurm"),
    "unknown field": (*TRAIN, "--widht", "64"),
    "seeds of 0": (*RUN, "--seeds", "0"),
    "seeds to tune on of 0": (*RUN, "--tune-seeds", "0"),
    "extension below 0": (*RUN, "--extend", "-1"),
    "seed below 0": (*TRAIN, "--seed", "-1"),
    "threads of 0": (*RUN, "--threads", "0"),
    "threads that no system has": (*RUN, "--threads", "100000"),
    "unknown command": ("runn",),
}


@pytest.fixture
def refused(vitbench, tmp_path, monkeypatch):
    """Calls a command that must be refused and gives its line; nothing may be written to its results."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, results: str = "results") -> str:
        before = sorted(path for path in tmp_path.rglob("*") if "results" in path.parts)
        said = vitbench(*arguments, "--results", results)
        assert said.status == 2
        assert said.out == ""
        assert said.err.startswith("vitbench: ") and said.err.endswith("\n") and said.err.count("\n") == 1
        assert sorted(path for path in tmp_path.rglob("*") if "results" in path.parts) == before
        return said.err

    return call


@pytest.mark.parametrize(("arguments", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_refused_in_one_line_and_writes_nothing(refused, tmp_path, arguments, says):
    assert says in refused(*arguments)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("arguments", LEFT_TO_TYPER.values(), ids=LEFT_TO_TYPER)
def test_what_typer_refuses_has_status_2_and_writes_nothing(vitbench, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    said = vitbench(*arguments)
    assert (said.status, said.out) == (2, "")
    assert "Error" in said.err and "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_the_process_itself_ends_with_status_2_and_one_line(tmp_path):
    said = subprocess.run(
        [sys.executable, "-W", "error", "-m", "vitbench", "run", "poling", "--results", str(tmp_path / "results")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, said.stdout, said.stderr.count("\n")) == (2, "", 1)
    assert said.stderr.startswith("vitbench: unknown study 'poling'")


def test_a_data_root_without_the_data_is_refused(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    line = refused(*RUN, "--data", "torch/cifar10", "--data-root", "empty")
    assert "'torch/cifar10' is not under data root 'empty'" in line and "--download" in line


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_folder_without_one_of_its_splits_is_refused(refused, tmp_path, folder_of_images, missing):
    folder_of_images(tmp_path / "pets")
    (tmp_path / "pets" / missing).rename(tmp_path / "pets" / "elsewhere")
    assert f"no {missing} split" in refused(*RUN, "--data", "pets")


def test_an_empty_folder_is_refused(refused, tmp_path):
    for split in ("train", "test"):
        (tmp_path / "pets" / split / "cat").mkdir(parents=True)
    assert "no images" in refused(*RUN, "--data", "pets")


@pytest.mark.parametrize("command", [RUN, TRAIN])
def test_an_image_that_cannot_be_read_is_named(refused, tmp_path, folder_of_images, command):
    folder_of_images(tmp_path / "pets")
    (tmp_path / "pets" / "train" / "dog" / "7.png").write_bytes(b"not an image")
    line = refused(*command, "--data", "pets", "--batch-size", "8", "--train-images", "16")
    assert "dog/7.png" in line and "cannot be read" in line


def test_splits_with_other_classes_are_refused(refused, tmp_path, folder_of_images):
    folder_of_images(tmp_path / "pets")
    (tmp_path / "pets" / "test" / "dog").rename(tmp_path / "pets" / "test" / "frog")
    assert "dog, frog" in refused(*RUN, "--data", "pets")


def test_a_study_file_that_cannot_be_imported_is_refused_with_its_line(refused, tmp_path):
    (tmp_path / "mine.py").write_text("import vitbench\nimport nonesuch\n")
    line = refused("run", "mine.py")
    assert "'mine.py' line 2" in line and "nonesuch" in line


def test_two_studies_of_one_name_are_refused(refused, tmp_path):
    text = "from vitbench.studies import Arm, Study\nSTUDY = Study('?', '', Arm('a'), [Arm('b', pool='gap')])\n"
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(text)
    assert "two studies are named 'mine'" in refused("run", "one/mine.py", "two/mine.py", "--budget", "smoke")


@pytest.mark.parametrize("command", [RUN, (*TRAIN, "--epochs", "1")])
def test_results_that_cannot_be_written_are_refused_before_training(refused, tmp_path, command):
    (tmp_path / "file").write_text("in the way")
    line = refused(*command, results="file/below")
    assert "cannot be written" in line and "--results" in line
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize(
    ("line", "says"), [('{"schema": 99}', "schema 99 is not 1"), ('{"schema": 1, "ru', "not JSON")]
)
def test_records_that_cannot_be_read_are_named_with_file_and_line(vitbench, tmp_path, made_up, line, says):
    store = RecordStore(tmp_path / "results")
    store.append(made_up(seed=0))
    with store.path("pooling").open("a") as file:
        file.write(line + "\n")
    store.append(made_up(seed=1))
    content = store.path("pooling").read_bytes()
    told = vitbench(*PLAN, "--results", store.root)  # as of `run`: tests/commands/test_records.py
    assert told.status == 1 and told.err.count("\n") == 1
    assert f"pooling.jsonl line 2: {says}" in told.err
    assert store.path("pooling").read_bytes() == content


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
@pytest.mark.parametrize("command", ["run", "train"])
def test_cuda_without_a_cuda_device_is_refused(refused, command, device):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    what = ("pooling", "--budget", "smoke") if command == "run" else ("Nano/2",)
    assert f"device '{device}' is asked for" in refused(command, *what, "--device", device)


def test_a_home_folder_is_meant_by_a_tilde_in_every_path(vitbench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    assert vitbench("train", "Nano/2", "--epochs", "1", "--results=~/mine").status == 0
    assert (tmp_path / "home" / "mine" / "records" / "train.jsonl").exists()
    assert "'{}'".format(tmp_path / "home" / "data") in vitbench("doctor", "--data-root=~/data").err
    assert "'{}'".format(tmp_path / "home" / "x.safetensors") in vitbench("train", "--init=~/x.safetensors").err
    (run,) = (tmp_path / "home" / "mine" / "checkpoints").glob("*.safetensors")
    told = vitbench("features", run, "--data", "digits", "--out=~/x.npz")
    assert told.status == 0 and (tmp_path / "home" / "x.npz").exists()
    assert not (tmp_path / "~").exists()


def test_a_home_folder_that_is_not_there_is_said(refused):
    line = refused("plan", "pooling", results="~nobody-of-that-name/x")
    assert "'~nobody-of-that-name/x' begins with a home folder that is not known" in line


@pytest.mark.parametrize("command", ["plan", "run", "train", "tables", "plots", "report", "figures"])
def test_results_that_are_a_file_are_refused(refused, tmp_path, command):
    (tmp_path / "file").write_text("")
    arguments = {"plan": ("pooling",), "run": ("pooling",), "train": ("Nano/2",), "figures": ("abcd",)}.get(command, ())
    assert "results 'file' is not a folder" in refused(command, *arguments, results="file")


@pytest.mark.parametrize("command", [RUN[:4], PLAN[:4], TRAIN[:2]], ids=["run", "plan", "train"])
def test_a_built_in_name_that_is_also_a_folder_of_the_data_root_is_refused(refused, tmp_path, command):
    (tmp_path / "data" / "digits").mkdir(parents=True)
    line = refused(*command, "--data", "digits", "--data-root", "data")
    assert "'digits' is built in, and there is 'data/digits' too; give that path as --data" in line


def test_a_data_root_that_the_doctor_does_not_find_is_named(vitbench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = vitbench("doctor", "--data-root", "nowhere")
    assert (told.status, told.out) == (2, "") and "data root 'nowhere' is not a folder" in told.err


def test_weights_are_evaluated_on_fewer_images_than_a_batch(vitbench, tmp_path, monkeypatch, folder_of_images):
    monkeypatch.chdir(tmp_path)
    folder_of_images(tmp_path / "pets", train=40)
    fields = ("--data", "pets", "--results", "results", "--json")
    trained = vitbench("train", "Nano/2", "--epochs", "1", "--batch-size", "8", *fields)
    run = json.loads(trained.out)["run_id"]
    told = vitbench("train", "--init", run, "--keep-head", "--epochs", "0", *fields)
    assert told.status == 0, told.err
    assert json.loads(told.out)["metrics"]["test_top1"] == json.loads(trained.out)["metrics"]["test_top1"]
