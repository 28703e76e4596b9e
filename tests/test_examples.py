"""Are the published ideas in docs/examples what their papers say, and do their studies run?"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.users_study import ONE_RUN
from vitbench.config import ViTConfig
from vitbench.models import build_model
from vitbench.models.parts import parts_of
from vitbench.records import Outcome, RecordStore
from vitbench.studies.library import load_study

EXAMPLES = sorted((Path(__file__).parents[1] / "docs" / "examples").glob("*.py"))
BASE = ViTConfig(image_size=(12, 8), patch_size=2, in_channels=1, width=24, depth=3, num_heads=3, num_classes=5)
GRID = (6, 4)


def built(example: str, arm: str, *, base: ViTConfig = BASE):
    """The model of an example's arm in float64, in training mode."""
    (path,) = [path for path in EXAMPLES if path.stem == example]
    study = load_study(str(path))
    (found,) = [each for each in (study.baseline, *study.arms) if each.name == arm]
    return build_model(found.apply(base)).double()


def part_of(example: str, arm: str, *, base: ViTConfig = BASE):
    return next(iter(parts_of(built(example, arm, base=base)).values()))


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_there_are_six_each_in_under_40_lines_with_its_source():
    assert len(EXAMPLES) == 6
    for path in EXAMPLES:
        text = path.read_text()
        assert text.count("\n") < 40, path
        assert "et al. 20" in text and "Simplified: " in " ".join(text.split()), path


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_its_study_runs_to_a_table_with_verdicts(vitbench, tmp_path, in_this_process, path):
    results = tmp_path / "results"
    said = vitbench("run", path, *ONE_RUN, "--jobs", "1", "--results", results)
    assert said.status == 0, said.err
    records = list(RecordStore(results).read(path.stem))
    assert {record.outcome for record in records} == {Outcome.COMPLETED}
    assert vitbench("tables", "--results", results).status == 0
    (page,) = (results / "tables" / path.stem).glob("smoke-*.md")
    assert all(f"| {record.arm} " in page.read_text() for record in records)


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_check_has_nothing_to_say_of_it(vitbench, path):
    said = vitbench("check", path, "--budget", "smoke", "--device", "cpu", "--json")
    arms = json.loads(said.out)["arms"]
    assert [(arm["arm"], arm["errors"], arm["warnings"]) for arm in arms if arm["errors"] or arm["warnings"]] == []
    assert said.status == 0


def test_conditional_position_adds_a_convolution_over_the_patches_before_the_second_block():
    part = part_of("conditional_position", "conditional", base=BASE.replace(num_registers=1))
    tokens = random(2, 2 + 24, 24)
    weight, bias = part.conv.weight.detach().numpy(), part.conv.bias.detach().numpy()
    expected = tokens.numpy().copy()
    patches = np.pad(tokens.numpy()[:, 2:].reshape(2, *GRID, 24), ((0, 0), (1, 1), (1, 1), (0, 0)))
    for row in range(6):
        for column in range(4):
            window = patches[:, row : row + 3, column : column + 3]  # [B, 3, 3, D]
            expected[:, 2 + row * 4 + column] += np.einsum("bijd,dij->bd", window, weight[:, 0]) + bias
    np.testing.assert_allclose(part(tokens, 1).detach().numpy(), expected, rtol=0, atol=1e-12)
    assert torch.equal(part(tokens, 0), tokens) and torch.equal(part(tokens, 2), tokens)


@pytest.mark.against("timm", "the convolution of conditional position (Twins' PosConv)", "1e-12")
def test_conditional_position_is_that_of_timm_s_twins():
    from timm.models.twins import PosConv

    part = part_of("conditional_position", "conditional", base=BASE.replace(pool="gap"))
    theirs = PosConv(24, 24).double()
    theirs.proj[0].load_state_dict(part.conv.state_dict())
    tokens = random(2, 24, 24)
    torch.testing.assert_close(part(tokens, 1), theirs(tokens, GRID), rtol=0, atol=1e-12)


def test_alibi_lowers_logits_by_slope_times_distance_and_leaves_the_class_token():
    bias = part_of("alibi_2d", "ALiBi").attention_bias(None, 0)
    assert bias.shape == (3, 25, 25)
    for head in range(3):
        slope = 2 ** (-8 * (head + 1) / 3)
        for i in range(25):
            for j in range(25):
                rows, columns = (divmod(k - 1, 4) for k in (i, j))
                expected = -slope * math.dist(rows, columns) if i and j else 0.0
                assert bias[head, i, j] == pytest.approx(expected, abs=1e-6)
    assert bias[0, 1, 2] == pytest.approx(-(2 ** (-8 / 3))) and bias[0, 1, 5] == bias[0, 1, 2]


def test_alibi_s_slopes_are_the_paper_s_for_eight_heads():
    part = part_of("alibi_2d", "ALiBi", base=BASE.replace(num_heads=8, width=32))
    slopes = -part.attention_bias(None, 0)[:, 1, 2]  # of two patches beside each other
    assert slopes.tolist() == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]


def test_relu_attention_weighs_values_by_positive_logits_over_the_number_of_tokens():
    part = part_of("relu_attention", "ReLU")
    q, k, v = random(3, 2, 3, 25, 8).numpy()
    logits = np.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(8)
    expected = np.einsum("bhij,bhjd->bhid", np.maximum(logits, 0) / 25, v)
    mixed = part.mix(*map(torch.from_numpy, (q, k, v)), None)
    np.testing.assert_allclose(mixed.numpy(), expected, rtol=0, atol=1e-12)
    bias = random(2, 3, 25, 25)
    expected = np.einsum("bhij,bhjd->bhid", np.maximum(logits + bias.numpy(), 0) / 25, v)
    mixed = part.mix(*map(torch.from_numpy, (q, k, v)), bias)
    np.testing.assert_allclose(mixed.numpy(), expected, rtol=0, atol=1e-12)


def simpool(tokens: np.ndarray, *, query: np.ndarray, key: np.ndarray, gamma: float) -> np.ndarray:
    """Equations 12 to 17 of Psomas et al. 2023 for one image [N, D], after a norm without weights."""
    normed = (tokens - tokens.mean(1, keepdims=True)) / np.sqrt(tokens.var(1, keepdims=True) + 1e-6)
    logits = normed @ key.T @ (query @ tokens.mean(0)) / math.sqrt(tokens.shape[1])
    attention = np.exp(logits) / np.exp(logits).sum()
    values = normed - normed.min() + 1e-6
    return (attention @ values**gamma) ** (1 / gamma)


def test_simpool_is_the_generalised_mean_of_its_equations():
    part = part_of("simpool", "SimPool", base=BASE.replace(num_registers=2))
    tokens = random(2, 2 + 24, 24)
    query, key = (layer.weight.detach().numpy() for layer in (part.query, part.key))
    pooled = part(tokens).detach().numpy()
    for image, vector in zip(tokens.numpy(), pooled, strict=True):
        expected = simpool(image[2:], query=query, key=key, gamma=1.25)
        np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-6)


def test_simpool_of_an_image_does_not_depend_on_its_neighbours():
    part = part_of("simpool", "SimPool")
    tokens = random(3, 24, 24)
    torch.testing.assert_close(part(tokens)[1:2], part(tokens[1:2]))


def test_patch_dropout_gives_the_logits_of_the_kept_patches_alone():
    from einops import repeat

    model = built("patch_dropout", "half")
    images = random(2, 1, 12, 8)
    torch.manual_seed(0)
    logits = model(images)
    hidden = (model.position.bias[:, 0, 0] == -torch.inf).numpy()
    assert hidden.sum(1).tolist() == [12, 12] and not hidden[:, 0].any() and (hidden[0] != hidden[1]).any()
    for image, left_out, expected in zip(images, hidden, logits, strict=True):
        x = torch.cat([repeat(model.class_token, "n d -> 1 n d"), model.stem(image[None])], dim=1)
        x = (x + model.position.tables[0]())[:, ~left_out]
        for block in model.blocks:
            block.attention.place_in()
            x = block(x)
        torch.testing.assert_close(model.head(model.norm(x)[:, 0])[0], expected, rtol=0, atol=1e-12)


def test_patch_dropout_hides_nothing_in_evaluation_and_starts_as_the_baseline():
    dropped, whole = (built("patch_dropout", arm).eval() for arm in ("half", "all"))
    assert dropped.state_dict().keys() == whole.state_dict().keys()
    images = random(2, 1, 12, 8)
    assert torch.equal(dropped(images), whole(images))
    assert not torch.equal(dropped.train()(images), whole(images))
