"""Is what is committed under results/reference what its records tell of, and small enough to be there?"""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.readme import REFERENCE, ROOT
from vitbench.analysis.pages import write_tables
from vitbench.models.weights import load_trained
from vitbench.records import Outcome, Record, RecordStore
from vitbench.records.transfer import TransferStore

FIGURES = sorted((ROOT / REFERENCE / "figures").glob("*/numbers.json"))
DRAWN = {path.parent.name for path in FIGURES}
PROBED = {record.run_id for record in TransferStore(ROOT / REFERENCE).read()}
CHECKPOINTS = [ROOT / REFERENCE / "checkpoints" / f"{run_id}.safetensors" for run_id in sorted(DRAWN | PROBED)]
"""Beside these lie, where a study was run, weights that are not committed."""


@pytest.fixture(scope="module")
def committed_records() -> dict[str, Record]:
    """By run_id."""
    store = RecordStore(ROOT / REFERENCE)
    return {record.run_id: record for study in store.studies() for record in store.read(study)}


def name_of(path):
    return (path.parent if path.suffix == ".json" else path).stem


def test_the_committed_tables_are_those_of_the_committed_records(tmp_path):
    for kind in ("records", "transfer"):
        shutil.copytree(ROOT / REFERENCE / kind, tmp_path / kind)
    write_tables(tmp_path)
    made, committed = (
        {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in root.rglob("*.md")}
        for root in (tmp_path / "tables", ROOT / REFERENCE / "tables")
    )
    assert made.keys() == committed.keys()
    assert [name for name, text in made.items() if committed[name] != text] == [], "run `nox -s tables`"


def test_there_is_a_gallery():
    assert DRAWN and PROBED


@pytest.mark.parametrize("path", CHECKPOINTS, ids=name_of)
def test_a_committed_checkpoint_is_that_of_a_committed_record_and_small(path, committed_records):
    trained = load_trained(path)
    record = committed_records[path.stem]
    assert path.stat().st_size <= 4_000_000
    assert record.outcome is Outcome.COMPLETED
    assert (record.weights_sha256, record.config) == (trained.weights_sha256, trained.config)


@pytest.mark.parametrize("path", FIGURES, ids=name_of)
def test_committed_figures_are_of_committed_weights(path):
    numbers = json.loads(path.read_text(encoding="utf-8"))
    trained = load_trained(ROOT / REFERENCE / "checkpoints" / f"{path.parent.name}.safetensors")
    assert numbers["weights_sha256"] == trained.weights_sha256
    drawn = {
        name: {path.with_name(f"{name}.{suffix}").is_file() for suffix in ("png", "svg")} for name in numbers["figures"]
    }
    assert drawn and set.union(*drawn.values()) == {True}


@pytest.mark.parametrize("path", FIGURES, ids=name_of)
def test_the_similarity_that_is_drawn_is_that_of_the_weights_by_hand(path):
    numbers = json.loads(path.read_text(encoding="utf-8"))["figures"]
    if "position" not in numbers or numbers["position"]["position"] != "learned_1d":
        pytest.skip("no learned table in this figure")
    weights = load_file(ROOT / REFERENCE / "checkpoints" / f"{path.parent.name}.safetensors")
    table = weights["position.tables.0.table"].astype(np.float64)
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    shown = np.array(numbers["position"]["similarity"])
    np.testing.assert_allclose(shown.reshape(len(table), len(table)), unit @ unit.T, atol=1e-5)


def test_no_committed_row_is_open_beside_an_interval_that_leaves_out_0_or_settled_beside_one_that_holds_it():
    """From the CSVs as anyone would read them: better and worse leave out 0, or end there where the interval is that of all
    arms of a study that adds seeds, cut at 0; open holds it; equivalent lies in the margin.
    """
    seen = set()
    for path in sorted((ROOT / REFERENCE / "tables").glob("*/*.csv")):
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
            if not row.get("interval_low_points"):
                continue
            low, high = float(row["interval_low_points"]), float(row["interval_high_points"])
            adds_seeds = not row["p_holm"]  # of looks there is no p
            holds = {
                "better": low > 0 or (low == 0 and adds_seeds),
                "worse": high < 0 or (high == 0 and adds_seeds),
                "open": low <= 0 <= high,
                "equivalent": max(-low, high) <= float(row["margin_points"]),
            }
            assert holds[row["verdict"]], (path.name, row["arm"])
            seen.add(row["verdict"])
    assert seen == {"better", "worse", "open", "equivalent"}
