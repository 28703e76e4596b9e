"""Are neighbours and their votes those of scikit-learn, however the features are cut into blocks?"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from tests.evaluation.made_up_features import make_features, on_disk
from vitbench.evaluation.features import LabelledFeatures
from vitbench.evaluation.neighbours import nearest, neighbours


def by_sklearn(train: LabelledFeatures, k: int, *, weights="uniform") -> KNeighborsClassifier:
    classifier = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights)
    return classifier.fit(train.values.astype(np.float64), train.labels)


@pytest.mark.against("scikit-learn", "accuracy of k nearest neighbours by cosine, weighted and by majority", "exact")
@pytest.mark.parametrize("k", [1, 20])
@pytest.mark.parametrize(("train_block", "test_block"), [(16_384, 1_024), (37, 50), (8, 30)])
def test_accuracies_are_those_of_scikit_learn_in_blocks_of_any_size(tmp_path, k, train_block, test_block):
    train = on_disk(make_features(301, classes=(3, 4, 8), spread=2.0), tmp_path / "train.npy")
    test = on_disk(make_features(101, classes=(3, 4, 8), spread=2.0, seed=1), tmp_path / "test.npy")
    found = neighbours(train, test, k=k, train_block=train_block, test_block=test_block)
    majority = by_sklearn(train, k)
    # A cosine distance is 1 − similarity.
    weighted = by_sklearn(train, k, weights=lambda distances: np.exp((1 - distances) / 0.07))
    assert found.majority == pytest.approx(majority.score(test.values, test.labels), abs=1e-12)
    assert found.weighted == pytest.approx(weighted.score(test.values, test.labels), abs=1e-12)
    assert 0.4 < found.majority < 0.95


@pytest.mark.parametrize("train_block", [1000, 60, 7])
def test_the_nearest_are_found_in_order_across_blocks(train_block):
    train, test = make_features(150), make_features(20, seed=1)
    train.labels[:] = np.arange(150)  # so that a label tells which image it is
    similarities, found = nearest(train, test.values, k=9, train_block=train_block)
    peer = NearestNeighbors(n_neighbors=9, metric="cosine", algorithm="brute").fit(train.values.astype(np.float64))
    distances, expected = peer.kneighbors(test.values.astype(np.float64))
    np.testing.assert_array_equal(found.numpy(), expected)
    np.testing.assert_allclose(similarities.numpy(), 1 - distances, atol=1e-6)


def test_one_neighbour_that_is_near_outweighs_two_that_are_far():
    # Cosines with (1, 0): 1, 0.8 and 0.8; votes e^0 = 1 against 2 e^(−0.2 / 0.07) = 0.11.
    train = LabelledFeatures(np.array([[2, 0], [4, 3], [4, -3]], np.float32), np.array([5, 1, 1]))
    near, far = (LabelledFeatures(np.array([[1, 0]], np.float32), np.array([label])) for label in (5, 1))
    assert neighbours(train, near, k=3).weighted == 1 and neighbours(train, near, k=3).majority == 0
    assert neighbours(train, far, k=3).weighted == 0 and neighbours(train, far, k=3).majority == 1
    # At a temperature at which 0.2 is nothing, each has one vote.
    assert neighbours(train, far, k=3, temperature=10.0).weighted == 1


def test_of_equal_votes_the_smallest_label_wins():
    train = LabelledFeatures(np.array([[1, 1], [1, -1]], np.float32), np.array([7, 2]))
    test = LabelledFeatures(np.array([[1, 0.5]], np.float32), np.array([2]))  # 7 is nearer
    assert neighbours(train, test, k=2).majority == 1 and neighbours(train, test, k=2).weighted == 0


@pytest.mark.parametrize("k", [0, 11])
def test_more_neighbours_than_training_images_are_refused(k):
    with pytest.raises(ValueError, match=f"^k {k} must be from 1 to the number of training images, 10; "):
        neighbours(make_features(10), make_features(5), k=k)


def test_a_class_without_training_images_is_never_right():
    train, test = make_features(100, classes=(0, 2), spread=0.01), make_features(90, seed=1, spread=0.01)
    found = neighbours(train, test, k=5)
    assert found.weighted == found.majority == (test.labels != 1).mean() < 1
