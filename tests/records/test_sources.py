"""Is the source of a user's code kept beside the records once, as it was, and taken along when these are merged?"""

from __future__ import annotations

import shutil

import pytest

from tests.users_study import STUDY_TEXT, write_study
from vitbench import user_code
from vitbench.config import RunConfig, ViTConfig
from vitbench.records import Faults, RecordStore
from vitbench.records.sources import objection, source_path
from vitbench.records.upkeep import check, merge


def config_of(position: str) -> RunConfig:
    return RunConfig(model=ViTConfig(position=position))


def quiet() -> Faults:
    return Faults(say=lambda _: None)


@pytest.fixture
def shift(tmp_path):
    module = user_code.loading.load(write_study(tmp_path / "study"))
    return user_code.register(module.Shift, "position")


@pytest.fixture
def results(tmp_path, made_up, shift):
    store = RecordStore(tmp_path / "a")
    store.append(made_up(config=config_of(shift)))
    return store.root


def test_what_ran_is_kept_with_its_comments_and_without_what_it_does_not_reach(results, shift):
    text = source_path(results, shift).read_text()
    start, end = STUDY_TEXT.index("class Shift"), STUDY_TEXT.index("STUDY =")
    assert STUDY_TEXT[start:end].strip() in text and "SCALE = 0.5" in text and "STUDY" not in text
    assert text.startswith(f"# {shift} as it ran") and objection(results, shift) == ""
    faults = quiet()
    assert check(results, faults) == (1, 1) and not faults


def test_the_first_text_of_a_name_stays_and_a_damaged_one_is_written_again(results, tmp_path, shift, made_up):
    path = source_path(results, shift)
    first, before = path.read_text(), path.stat().st_mtime_ns
    write_study(tmp_path / "study", STUDY_TEXT.replace("# Adds to every token.", "# Another comment."))
    assert user_code.register(user_code.loading.load(tmp_path / "study" / "mine.py").Shift, "position") == shift
    RecordStore(results).append(made_up(config=config_of(shift).replace(seed=1), seed=1))
    assert (path.read_text(), path.stat().st_mtime_ns) == (first, before)
    path.write_text(first[:-5])
    RecordStore(results).append(made_up(config=config_of(shift).replace(seed=2), seed=2))
    assert objection(results, shift) == ""


@pytest.mark.parametrize(
    ("damage", "said"),
    [(lambda path: path.unlink(), "is missing"), (lambda path: path.write_text("x = 1"), "is not as it was written")],
)
def test_a_source_that_is_missing_or_altered_is_a_fault_and_its_records_stay_sound(results, shift, damage, said):
    damage(source_path(results, shift))
    faults = quiet()
    assert check(results, faults) == (1, 1)
    (fault,) = faults
    assert (fault.path, fault.kind) == (source_path(results, shift), "source")
    assert said in str(fault) and "records and tables do not need it" in str(fault)


def test_merging_takes_sources_along_and_mends_what_is_missing(results, tmp_path, shift):
    into = tmp_path / "b"
    into.mkdir()
    merge(into, results, quiet())
    assert source_path(into, shift).read_bytes() == source_path(results, shift).read_bytes()
    shutil.rmtree(into / "sources")
    assert list(merge(into, results, quiet()).values()) == [0]
    assert objection(into, shift) == ""


def test_merging_takes_no_damaged_source_along(results, tmp_path, shift):
    path = source_path(results, shift)
    path.write_text(path.read_text()[:-5])
    into = tmp_path / "b"
    into.mkdir()
    assert list(merge(into, results, quiet()).values()) == [1]
    assert not source_path(into, shift).exists()


def test_a_process_without_the_code_appends_all_the_same(tmp_path, made_up):
    store = RecordStore(tmp_path)
    store.append(made_up(config=config_of("Gone@00000000")))
    assert not (tmp_path / "sources").exists()
    faults = quiet()
    assert check(tmp_path, faults) == (1, 1) and len(faults) == 1


def test_records_without_users_code_have_no_sources(tmp_path, made_up):
    store = RecordStore(tmp_path)
    store.append(made_up())
    assert not (tmp_path / "sources").exists() and check(tmp_path, faults := quiet()) == (1, 1) and not faults
