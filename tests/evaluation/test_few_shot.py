"""Is few-shot regression the closed form of its definition, and are its images drawn as it says?"""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.made_up_features import make_features, on_disk, standardised
from vitbench.evaluation.features import LabelledFeatures
from vitbench.evaluation.few_shot import draw_images, few_shot, fit_ridge


def normal_equations(train: LabelledFeatures, l2: float = 2.0**10) -> np.ndarray:
    """[D + 1, K] in float64: solve((XᵀX + l2 I) W = XᵀY), X standardised with 100 appended, Y ±1."""
    x = np.column_stack([standardised(train), np.full(len(train), 100.0)])
    y = np.where(train.labels[:, None] == np.unique(train.labels), 1.0, -1.0)
    return np.linalg.solve(x.T @ x + l2 * np.eye(x.shape[1]), x.T @ y)


@pytest.mark.against("numpy", "few-shot weights, by the normal equations in float64", "1e-9 relative")
@pytest.mark.parametrize("batch_size", [16, 10_000])
@pytest.mark.parametrize(("count", "width"), [(120, 7), (8, 7), (40, 120)])
def test_weights_solve_the_normal_equations_in_either_form(tmp_path, count, width, batch_size):
    train = on_disk(make_features(count, width=width), tmp_path / "train.npy")
    ridge = fit_ridge(train, np.arange(count), batch_size=batch_size)
    expected = normal_equations(train)
    np.testing.assert_allclose(ridge.weights, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_accuracies_are_those_of_the_closed_form_on_the_images_drawn(tmp_path):
    train = make_features(200, classes=(1, 4, 6), spread=2.0)
    test = make_features(5000, classes=(1, 4, 6), seed=1, spread=2.0)
    found = few_shot(on_disk(train, tmp_path / "a.npy"), on_disk(test, tmp_path / "b.npy"), shots=(1, 5), draws=2)
    assert list(found) == [(1, 0), (1, 1), (5, 0), (5, 1)]
    for (shots, draw), top1 in found.items():
        rows = draw_images(train.labels, shots=shots, draw=draw)
        drawn = LabelledFeatures(train.values[rows], train.labels[rows])
        x = np.column_stack([standardised(test, by=drawn), np.full(len(test), 100.0)])
        predicted = np.unique(drawn.labels)[np.argmax(x @ normal_equations(drawn), axis=1)]
        assert top1 == pytest.approx((predicted == test.labels).mean(), abs=1e-12)
    assert 0.4 < found[5, 0] < 0.95 and len(set(found.values())) == 4


def test_each_class_gives_its_shots_and_fewer_shots_are_among_more():
    labels = np.random.RandomState(0).permutation(np.repeat([0, 2, 3], 30))
    few, many, other = (draw_images(labels, shots=n, draw=d) for n, d in ((5, 0), (25, 0), (5, 1)))
    assert np.unique(labels[few], return_counts=True)[1].tolist() == [5, 5, 5]
    assert len(set(few)) == 15 and set(few) < set(many)
    assert set(few) != set(other)
    np.testing.assert_array_equal(few, draw_images(labels, shots=5, draw=0))


def test_a_class_s_images_do_not_depend_on_the_other_classes():
    labels = np.repeat([0, 1, 2], 30)
    alone = draw_images(np.where(labels == 1, 1, 0), shots=5, draw=0)
    together = draw_images(labels, shots=5, draw=0)
    assert set(alone[labels[alone] == 1]) == set(together[labels[together] == 1])


def test_a_class_with_fewer_images_than_shots_is_refused_in_one_line():
    labels = np.array([0] * 30 + [4] * 7)
    with pytest.raises(ValueError, match=r"^shots 10 is more than the 7 training images of class 4; give fewer$"):
        draw_images(labels, shots=10, draw=0)
    with pytest.raises(ValueError, match="shots 0 must be positive"):
        draw_images(labels, shots=0, draw=0)


def test_a_class_without_training_images_is_never_right():
    train = make_features(100, classes=(0, 2), spread=0.01)
    test = make_features(90, classes=(0, 1, 2), seed=1, spread=0.01)
    assert few_shot(train, test, shots=(5,), draws=1) == {(5, 0): (test.labels != 1).mean()}
