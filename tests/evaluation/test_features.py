"""Are features those of the model, kept and exported as they were, a batch at a time?"""

from __future__ import annotations

import json
import tracemalloc
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from tests.evaluation.made_up_features import make_features, on_disk, standardised
from vitbench.evaluation import exports
from vitbench.evaluation.exports import check_export, export
from vitbench.evaluation.features import LabelledFeatures, Standardise, feature_batches, keep
from vitbench.evaluation.few_shot import fit_ridge


def test_features_of_each_batch_come_as_float32_and_without_gradients():
    layer = torch.nn.Linear(4, 3)
    images = [torch.randn(n, 4, generator=torch.Generator().manual_seed(n)) for n in (5, 5, 2)]
    found = list(feature_batches(layer, images, autocast=lambda: torch.autocast("cpu", dtype=torch.bfloat16)))
    assert [(values.shape, values.dtype) for values in found] == [((n, 3), np.float32) for n in (5, 5, 2)]
    expected = layer(torch.cat(images)).detach().numpy()
    np.testing.assert_allclose(np.concatenate(found), expected, atol=0.05)
    assert not np.allclose(np.concatenate(found), expected, atol=1e-6)  # bf16 it was, as asked


def test_features_that_are_not_finite_are_refused_by_their_images():
    broken = torch.ones(4, 2)
    broken[1] = torch.inf
    batches = feature_batches(torch.nn.Identity(), [torch.ones(3, 2), broken], autocast=nullcontext)
    next(batches)
    with pytest.raises(ValueError, match="features of images 3 to 6 are not all finite"):
        next(batches)


@pytest.mark.parametrize("batch_size", [7, 25, 100])
def test_what_is_kept_batch_by_batch_is_mapped_from_the_file_as_it_was(tmp_path, batch_size):
    features = make_features(25)
    kept = on_disk(features, tmp_path / "kept.npy", batch_size=batch_size)
    assert isinstance(kept.values, np.memmap)
    np.testing.assert_array_equal(kept.values, features.values)


def test_batches_are_the_rows_asked_for_in_their_order_and_the_last_may_be_ragged(tmp_path):
    features = on_disk(make_features(10), tmp_path / "kept.npy")
    rows = np.array([9, 0, 4, 4, 7])
    found = list(features.batches(rows, batch_size=2))
    assert [len(labels) for _, labels in found] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([values for values, _ in found]), features.values[rows])
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in found]), features.labels[rows])


def test_features_on_disk_are_never_in_memory_as_a_whole(tmp_path):
    count, width = 60_000, 64  # 15 MB; a batch of the default size takes 2 MB in float64
    labels = np.arange(count) % 3

    def batches():
        for seed in range(60):
            yield np.random.RandomState(seed).rand(1000, width).astype(np.float32)

    tracemalloc.start()
    try:
        kept = LabelledFeatures(keep(batches(), num_images=count, folder=tmp_path), labels)
        fit_ridge(kept, np.arange(count))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < kept.values.nbytes


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be written \(Not a directory\).*VITBENCH_CACHE"):
        keep([np.zeros((1, 2), np.float32)], num_images=1, folder=tmp_path / "file" / "below")


def test_kept_features_have_no_file_that_a_kill_could_leave_behind(tmp_path):
    kept = on_disk(make_features(25), tmp_path / "kept.npy")
    assert list(tmp_path.iterdir()) == [] and kept.values.shape[0] == 25


def test_features_without_a_label_each_are_refused():
    with pytest.raises(ValueError, match=r"features \(3, 2\) .* labels \(2,\)"):
        LabelledFeatures(np.zeros((3, 2), np.float32), np.zeros(2, np.int64))


@pytest.mark.parametrize("batch_size", [7, 4096])
def test_standardising_in_batches_is_that_of_all_at_once_in_float64(batch_size):
    features = make_features(101)
    features.values[:, 2] = 5.0  # never varies
    found = Standardise.of(features, batch_size=batch_size)(features.values)
    np.testing.assert_allclose(found, standardised(features), rtol=0, atol=1e-9)
    assert not found[:, 2].any()


def test_an_npz_file_has_features_ids_labels_and_facts(tmp_path):
    features = make_features(25)
    path = tmp_path / "new" / "mine.npz"
    batches = (values for values, _ in features.batches(batch_size=7))
    export(path, batches, ids=np.arange(25), labels=features.labels, facts={"dataset": "digits", "n": [1, 2]})
    with np.load(path, allow_pickle=False) as found:
        assert sorted(found) == ["facts", "features", "ids", "labels"]
        np.testing.assert_array_equal(found["features"], features.values)
        assert found["features"].dtype == np.float32
        np.testing.assert_array_equal(found["ids"], np.arange(25))
        np.testing.assert_array_equal(found["labels"], features.labels)
        assert json.loads(str(found["facts"])) == {"dataset": "digits", "n": [1, 2]}


def test_a_parquet_file_has_a_row_for_each_image(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    features = make_features(25)
    path = tmp_path / "mine.parquet"
    batches = (values for values, _ in features.batches(batch_size=7))
    export(path, batches, ids=np.arange(25), labels=features.labels, facts={"dataset": "digits"})
    table = parquet.read_table(path)
    assert table.column_names == ["id", "label", "features"]
    np.testing.assert_array_equal(np.array(table["features"].to_pylist(), dtype=np.float32), features.values)
    assert table["id"].to_pylist() == list(range(25)) and table["label"].to_pylist() == features.labels.tolist()
    assert json.loads(table.schema.metadata[b"vitbench"]) == {"dataset": "digits"}


@pytest.mark.parametrize("name", ["mine.npz", "mine.parquet"])
def test_an_export_that_fails_leaves_the_file_before_it_as_it_was(tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = tmp_path / name
    path.write_text("before")

    def breaks():
        yield np.zeros((2, 3), np.float32)
        raise ValueError("features are not finite")

    with pytest.raises(ValueError, match="not finite"):
        export(path, breaks(), ids=np.arange(4), labels=np.zeros(4, np.int64), facts={})
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_said_before_anything_is_computed(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"mine\.csv' has no format; give a name that ends with \.npz or \.parquet"):
        check_export(tmp_path / "mine.csv")
    monkeypatch.setattr(exports, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install pyarrow, or give FILE\.npz"):
        check_export(tmp_path / "mine.parquet")
    check_export(tmp_path / "mine.npz")
