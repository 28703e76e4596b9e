"""Does `vitbench probe` measure frozen features as scikit-learn would, and record each measurement once?"""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from tests.commands.kept_weights import keep_weights
from vitbench.data import load, split
from vitbench.inspection import probe
from vitbench.inspection.features import FeatureExtractor
from vitbench.models.weights import load_trained
from vitbench.records.transfer import TransferStore

ON_CPU = ("--device", "cpu", "--threads", "1")


@pytest.fixture
def short_grid(monkeypatch):
    """Two penalties that converge in a moment."""
    monkeypatch.setattr(probe, "L2_GRID", (1.0, 0.1))


@pytest.fixture
def asked(vitbench, tmp_path):
    """`asked(RUN, …)`: the records that `vitbench probe RUN --data digits --json …` prints, by method."""

    def ask(name, *arguments):
        said = vitbench("probe", name, "--data", "digits", "--results", tmp_path, *ON_CPU, "--json", *arguments)
        assert said.status == 0, said.err
        return {record["request"]["method"]: record for record in json.loads(said.out)}

    return ask


def exported(vitbench, path, out, part):
    arguments = ("--data", "digits", "--split", part, "--out", out / f"{part}.npz", *ON_CPU)
    assert vitbench("features", path, *arguments).status == 0
    with np.load(out / f"{part}.npz") as found:
        return found["features"].astype(np.float64), found["labels"]


def accuracies(record):
    return {(one["classifier"], one["draw"]): one["top1"] for one in record["accuracies"]}


@pytest.mark.against("scikit-learn", "`vitbench probe`: linear and kNN accuracies on exported features", "exact")
def test_accuracies_are_those_of_scikit_learn_on_the_exported_features(vitbench, asked, tmp_path, short_grid):
    path = keep_weights(tmp_path, seed=2, validation_fraction=0.2)
    found = asked(path.stem, "--shots", "1,5")
    (x, y), (test, labels) = (exported(vitbench, path, tmp_path, part) for part in ("train", "test"))

    majority = KNeighborsClassifier(20, metric="cosine", algorithm="brute").fit(x, y)
    assert accuracies(found["knn"])["knn-majority", None] == pytest.approx(majority.score(test, labels), abs=1e-12)

    def by_sklearn(rows, l2):
        mean, scale = x[rows].mean(axis=0), x[rows].std(axis=0) + 1e-5
        model = LogisticRegression(C=1 / (len(rows) * l2), tol=1e-8, max_iter=1000).fit(
            (x[rows] - mean) / scale, y[rows]
        )
        return lambda values, of_values: model.score((values - mean) / scale, of_values)

    # The images that the weights' own run held out: with its fraction and its seed.
    fit_rows, validation_rows = split(y, validation_fraction=0.2, seed=2)
    validation = {l2: by_sklearn(fit_rows, l2)(x[validation_rows], y[validation_rows]) for l2 in (1.0, 0.1)}
    details = found["linear"]["details"]
    assert details["validation_top1"] == {f"{l2:g}": pytest.approx(top1) for l2, top1 in validation.items()}
    assert details["l2"] == max(validation, key=lambda l2: (validation[l2], l2)) and details["converged"]
    expected = by_sklearn(np.arange(len(x)), details["l2"])(test, labels)
    assert accuracies(found["linear"])["linear", None] == pytest.approx(expected, abs=1e-12)

    assert list(accuracies(found["few-shot"])) == [(f"{n}-shot", draw) for n in (1, 5) for draw in range(3)]
    assert all(0.1 < top1 < 1 for top1 in accuracies(found["few-shot"]).values())


def test_a_record_says_what_was_measured_of_what_and_where(asked, tmp_path):
    path = keep_weights(tmp_path)
    record = asked(path, "--method", "few-shot")["few-shot"]
    (kept,) = TransferStore(tmp_path).read("digits")
    assert kept.to_dict() == record and record["run_id"] == path.stem
    assert record["request"]["weights"] == load_trained(path).identity
    assert record["request"]["constants"] == {"shots": [1, 5, 10, 25], "draws": 3, "l2": 1024, "constant": 100}
    assert record["request"]["data_sha256"] == record["environment"]["data_sha256"] == load("digits").sha256
    assert (record["train_images"], record["test_images"], record["width"], record["num_classes"]) == (
        1198,
        599,
        32,
        10,
    )
    assert record["environment"]["precision"] == "fp32" and record["environment"]["device"].startswith("cpu")


def test_what_is_recorded_is_not_measured_again_unless_asked(asked, tmp_path, monkeypatch):
    path, calls = keep_weights(tmp_path), []
    batches = FeatureExtractor.batches
    monkeypatch.setattr(FeatureExtractor, "batches", lambda *a, **k: calls.append(1) or batches(*a, **k))
    first = asked(path.stem, "--method", "knn")
    assert len(calls) == 2  # train and test
    assert asked(path.stem[:8], "--method", "knn") == first and len(calls) == 2
    both = asked(path, "--method", "knn,few-shot", "--shots", "1")
    assert both["knn"] == first["knn"] and len(calls) == 4
    assert asked(path, "--method", "few-shot", "--shots", "1,2")["few-shot"] != both["few-shot"] and len(calls) == 6
    again = asked(path, "--method", "knn", "--again")["knn"]
    assert again["accuracies"] == first["knn"]["accuracies"] and again["finished"] != first["knn"]["finished"]
    assert [r.request.method for r in TransferStore(tmp_path).read()] == ["knn", "few-shot", "few-shot", "knn"]


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("digits", {"validation_fraction": 0.2, "seed": 3}),
        ("shapes", {"validation_fraction": 0.1, "seed": 0}),
    ],
)
def test_validation_images_are_those_that_the_weights_run_held_out_of_the_same_data(
    asked, tmp_path, short_grid, dataset, expected
):
    path = keep_weights(tmp_path, dataset=dataset, validation_fraction=0.2, seed=3)
    record = asked(path, "--method", "linear")["linear"]
    assert record["request"]["constants"]["validation"] == expected
    assert record["request"]["constants"]["l2_grid"] == [1.0, 0.1]


def test_a_person_is_told_the_accuracies_and_where_they_are_recorded(vitbench, tmp_path, short_grid):
    path = keep_weights(tmp_path)
    request = ("probe", path, "--data", "digits", "--shots", "1,5", "--results", tmp_path, *ON_CPU)
    said = vitbench(*request)
    assert said.status == 0, said.err
    for words in ("linear  ", "(L2 ", "1-shot  ", "over 3 draws", "5-shot  ", "knn  ", "knn-majority  "):
        assert words in said.out
    assert f"recorded in {tmp_path / 'transfer' / 'digits.jsonl'}\n" in said.out
    assert "before; --again measures it again" in vitbench(*request).out
    assert not list(tmp_path.glob("**/features-*"))  # nothing is left of where features lay


WRONG = {
    "unknown method": (("--method", "linear,knm"), "method 'knm' is not known; use linear, few-shot, knn"),
    "no shots": (("--shots", "1,0"), "shots '1,0' is not a list of positive numbers"),
    "shots that are no numbers": (("--shots", "few"), "shots 'few' is not a list"),
    "more shots than a class has": (("--shots", "1,50"), "shots 50 is more than the 40 training images of class 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_refused_in_one_line_before_features_are_computed(
    vitbench, tmp_path, monkeypatch, folder_of_images, case
):
    arguments, says = WRONG[case]
    monkeypatch.delattr(FeatureExtractor, "batches")
    path, data = keep_weights(tmp_path), folder_of_images(tmp_path / "data")
    said = vitbench("probe", path, "--data", data, "--results", tmp_path, *ON_CPU, *arguments)
    assert said.status == 2 and says in said.err and said.err.count("\n") == 1, said.err
    assert not (tmp_path / "transfer").exists()


def test_too_few_training_images_for_the_neighbours_are_refused(vitbench, tmp_path, folder_of_images):
    data = folder_of_images(tmp_path / "data", train=9)
    request = ("probe", keep_weights(tmp_path), "--data", data, "--results", tmp_path, *ON_CPU, "--method", "knn")
    said = vitbench(*request)
    assert said.status == 2 and "takes 20 neighbours, but there are 18 training images" in said.err
