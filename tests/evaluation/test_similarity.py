"""Is similarity what its definition says: of vectors, of images as two layers see them, and of filters to their components?"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import confusion_matrix

from vitbench.evaluation.accuracy import confusion_counts
from vitbench.evaluation.principal import principal_components
from vitbench.evaluation.similarity import cosine_similarity, gram, hsic, minibatch_cka


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_cosine_similarity_is_that_of_vectors_drawn_by_hand():
    found = cosine_similarity(torch.tensor([[2.0, 0], [3, 3], [-1, 0], [0, 0]]))
    half = 0.5**0.5
    expected = [[1, half, -1, 0], [half, 1, -half, 0], [-1, -half, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-15)


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Of Gram matrices, Gretton et al. 2005: E K(x,x') L(y,y') + E K E L − 2 E K(x,x') L(y,y''), over all different images."""
    n = len(x)
    tuples = list(itertools.permutations(range(n), 4))
    return sum(x[i, j] * (y[i, j] + y[q, r] - 2 * y[i, q]) for i, j, q, r in tuples) / len(tuples)


def test_hsic_is_the_mean_over_all_tuples_of_different_images():
    x, y = normal(7, 3), normal(7, 2, seed=1)
    of_x, of_y = x @ x.T, y @ y.T
    assert hsic(of_x, of_y).item() == pytest.approx(by_definition(of_x.numpy(), of_y.numpy()), abs=1e-12)
    assert hsic(gram(x), gram(y)).item() == pytest.approx(
        hsic(of_x, of_y).item(), abs=1e-12
    )  # centring changes nothing


def test_fewer_than_four_images_are_refused():
    with pytest.raises(ValueError, match="a minibatch of 3 images is too small"):
        hsic(torch.eye(3), torch.eye(3))


def cka(ours: list[torch.Tensor], theirs: list[torch.Tensor], *, batch: int) -> torch.Tensor:
    batches = zip(
        zip(*(a.split(batch) for a in ours), strict=True),
        zip(*(b.split(batch) for b in theirs), strict=True),
        strict=True,
    )
    return minibatch_cka((torch.stack(list(map(gram, x))), torch.stack(list(map(gram, y)))) for x, y in batches)


def test_cka_is_1_for_layers_that_differ_by_rotation_scale_and_shift():
    x = normal(32, 4, 5)
    rotation, _ = torch.linalg.qr(normal(20, 20, seed=1))
    turned = 3 * x.flatten(1) @ rotation + 7
    assert cka([x], [turned], batch=8).item() == pytest.approx(1, abs=1e-12)


def test_cka_in_small_batches_is_that_of_the_population_and_not_too_large():
    # Of independent standard normal x₁, x₂, x₃: ‖Σ_xy‖² / (‖Σ_xx‖ ‖Σ_yy‖), where x is all three and y the first one: 1/√3.
    x = normal(6000, 3)
    other = normal(6000, 3, seed=1)
    found = cka([x, other], [x[:, :1], x], batch=6)
    np.testing.assert_allclose(found.numpy(), [[3**-0.5, 1], [0, 0]], rtol=0, atol=0.03)


def test_a_layer_that_sees_no_difference_between_images_has_no_alignment():
    x = normal(8, 3)
    assert cka([x, torch.ones(8, 3)], [x], batch=4).isnan().tolist() == [[False], [True]]
    with pytest.raises(ValueError, match="no minibatch"):
        minibatch_cka([])


@pytest.mark.against("scikit-learn", "principal components of filters, with PCA", "1e-10")
@pytest.mark.parametrize("number", [20, 9])
def test_components_of_filters_are_those_of_scikit_learn_up_to_sign(number):
    filters = normal(number, 3, 2, 2)
    components, shares = principal_components(filters, 10)
    kept = min(10, number - 1)  # about their mean, n filters span n − 1 dimensions
    reference = PCA(n_components=kept).fit(filters.flatten(1).numpy())
    assert components.shape == (kept, 3, 2, 2)
    np.testing.assert_allclose(shares.numpy(), reference.explained_variance_ratio_, rtol=0, atol=1e-10)
    for found, expected in zip(components.flatten(1).numpy(), reference.components_, strict=True):
        assert found[np.abs(found).argmax()] > 0
        np.testing.assert_allclose(found * np.sign(found @ expected), expected, rtol=0, atol=1e-10)


@pytest.mark.against("scikit-learn", "confusion of classes, with confusion_matrix", "exact")
def test_confusion_is_that_of_scikit_learn_with_classes_that_never_occur():
    draws = np.random.default_rng(0)
    labels, predicted = draws.integers(0, 4, size=(2, 50))
    counts = confusion_counts(labels, predicted, num_classes=6)
    assert counts.tolist() == confusion_matrix(labels, predicted, labels=range(6)).tolist()
