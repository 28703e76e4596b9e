"""Is the linear probe the logistic regression that scikit-learn finds, however its features come?"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from tests.evaluation.made_up_features import make_features, on_disk, standardised
from vitbench.evaluation import probe
from vitbench.evaluation.features import LabelledFeatures
from vitbench.evaluation.probe import TOLERANCE, fit_probe, linear_probe


def by_sklearn(x: np.ndarray, labels: np.ndarray, l2: float) -> LogisticRegression:
    """The same objective: it minimises C × the summed loss + ½ ‖W‖², so C = 1 / (N l2).

    Of two classes it has one weight vector, the difference of ours; ours are ± half of it, with half its penalty.
    """
    penalties = 2 if len(np.unique(labels)) == 2 else 1
    return LogisticRegression(C=penalties / (len(labels) * l2), tol=1e-9, max_iter=5000).fit(x, labels)


@pytest.mark.against("scikit-learn", "logistic regression: weights, intercepts and loss", "1e-4, 1e-4 and 1e-8")
@pytest.mark.parametrize("classes", [(0, 1, 2), (2, 3, 5, 9), (1, 4)])
@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-3])
def test_weights_are_those_of_scikit_learn(tmp_path, classes, l2):
    train = on_disk(make_features(301, classes=classes), tmp_path / "train.npy")
    x = standardised(train)
    found, expected = fit_probe(train, l2=l2, batch_size=64), by_sklearn(x, train.labels, l2)
    weights, intercepts = found.weights[:, :-1], found.weights[:, -1] - found.weights[:, -1].mean()
    of_sklearn = expected.intercept_ - expected.intercept_.mean()
    if len(classes) == 2:
        weights, intercepts, of_sklearn = (
            weights[[1]] - weights[[0]],
            np.diff(found.weights[:, -1]),
            expected.intercept_,
        )
    scale = np.abs(expected.coef_).max()
    np.testing.assert_allclose(weights, expected.coef_, rtol=0, atol=1e-4 * scale)
    np.testing.assert_allclose(intercepts, of_sklearn, rtol=0, atol=1e-4 * scale)
    assert found.loss == pytest.approx(
        log_loss(train.labels, expected.predict_proba(x))
        + l2 / 2 * (expected.coef_**2).sum() / (2 if len(classes) == 2 else 1),
        rel=1e-8,
    )
    assert found.converged and found.classes.tolist() == list(classes)
    assert found.top1(train) == pytest.approx((expected.predict(x) == train.labels).mean(), abs=1e-12)


def test_features_in_batches_from_a_file_give_what_those_in_memory_give(tmp_path):
    train = make_features(203)
    rows = np.flatnonzero(np.arange(203) % 3)
    at_once = fit_probe(train, rows, l2=1e-2, batch_size=203)
    streamed = fit_probe(on_disk(train, tmp_path / "train.npy"), rows, l2=1e-2, batch_size=10)
    np.testing.assert_allclose(streamed.weights, at_once.weights, rtol=0, atol=1e-4)
    assert streamed.loss == pytest.approx(at_once.loss, abs=1e-10)
    alone = fit_probe(LabelledFeatures(train.values[rows], train.labels[rows]), l2=1e-2)
    np.testing.assert_allclose(alone.weights, at_once.weights, rtol=0, atol=1e-4)


@pytest.mark.against("scikit-learn", "linear probe: L2 chosen, validation and test accuracies", "exact")
def test_the_penalty_is_chosen_on_the_validation_images_and_all_of_train_is_fitted(tmp_path):
    train = make_features(60, width=40, spread=3.0)
    test = make_features(999, width=40, spread=3.0, seed=1)
    fit_rows, validation_rows = np.flatnonzero(np.arange(60) % 2), np.flatnonzero(np.arange(60) % 2 == 0)
    grid = (1e-4, 1e-2, 1.0, 30.0)
    fitted, held_out = (
        LabelledFeatures(train.values[rows], train.labels[rows]) for rows in (fit_rows, validation_rows)
    )
    expected = {
        l2: by_sklearn(standardised(fitted), fitted.labels, l2).score(
            standardised(held_out, by=fitted), held_out.labels
        )
        for l2 in grid
    }
    best = max(grid, key=lambda l2: (expected[l2], l2))
    result = linear_probe(
        on_disk(train, tmp_path / "train.npy"), test, fit_rows=fit_rows, validation_rows=validation_rows, grid=grid
    )
    assert result.validation_top1 == pytest.approx(expected) and len(set(expected.values())) > 1
    assert result.l2 == best
    refitted = by_sklearn(standardised(train), train.labels, best)
    assert result.top1 == pytest.approx(refitted.score(standardised(test, by=train), test.labels), abs=1e-12)
    assert result.converged and result.at_edge == (best in (1e-4, 30.0))


def test_of_equally_good_penalties_the_largest_is_taken_and_the_edge_is_said():
    train = make_features(90, spread=0.01)
    rows = np.arange(90)
    result = linear_probe(train, train, fit_rows=rows, validation_rows=rows, grid=(1e-3, 1e-2, 1e-1))
    assert set(result.validation_top1.values()) == {1.0}
    assert result.l2 == 1e-1 and result.at_edge


def test_a_class_without_training_images_is_never_right():
    train, test = make_features(100, classes=(0, 2), spread=0.01), make_features(90, seed=1, spread=0.01)
    found = fit_probe(train, l2=1e-2)
    assert found.classes.tolist() == [0, 2]
    assert found.top1(test) == (test.labels != 1).mean() < 1


def test_a_single_class_is_refused():
    with pytest.raises(ValueError, match="labels have one class, 3"):
        fit_probe(make_features(10, classes=(3,)), l2=1e-2)


def test_a_fit_that_was_stopped_says_that_it_did_not_converge(monkeypatch):
    train = make_features(100)
    rows = np.arange(100)
    assert fit_probe(train, l2=1e-2).converged
    monkeypatch.setattr(probe, "MOST_ITERATIONS", 2)
    assert not fit_probe(train, l2=1e-2).converged
    assert not linear_probe(train, train, fit_rows=rows, validation_rows=rows, grid=(1e-2,)).converged


def test_converged_means_a_gradient_of_nearly_nothing():
    train = make_features(150)
    found = fit_probe(train, l2=1e-3)
    x, weights = standardised(train), found.weights
    logits = x @ weights[:, :-1].T + weights[:, -1]
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    residual = chances / chances.sum(axis=1, keepdims=True) - np.eye(3)[train.labels]
    assert np.abs(residual.T @ x / 150 + 1e-3 * weights[:, :-1]).max() <= 1.01 * TOLERANCE
    assert np.abs(residual.mean(axis=0)).max() <= 1.01 * TOLERANCE
