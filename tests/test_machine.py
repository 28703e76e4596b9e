"""Is what was measured on a machine remembered for the next process, and measured anew where it cannot be?"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from vitbench.machine import all_remembered, cache_directory, remembered


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))


def test_what_was_measured_for_a_key_is_not_measured_again():
    calls = []
    for value in (1.5, 2.5):
        assert remembered("rate", "gpu", lambda value=value: calls.append(value) or value) == 1.5
    assert remembered("rate", "other gpu", lambda: 3.0) == 3.0 and calls == [1.5]
    assert all_remembered("rate") == {"gpu": 1.5, "other gpu": 3.0}


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"gpu": "fast"}', "null"])
def test_a_damaged_file_or_value_is_measured_anew_and_mended(content):
    path = cache_directory() / "rate.json"
    path.parent.mkdir()
    path.write_text(content)
    assert remembered("rate", "gpu", lambda: 2.0, is_valid=lambda value: isinstance(value, float)) == 2.0
    assert json.loads(path.read_text()) == {"gpu": 2.0}


def test_without_a_cache_that_can_be_written_it_is_measured_each_time(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "file" / "below"))
    assert [remembered("rate", "gpu", lambda value=value: value) for value in (1, 2)] == [1, 2]
    assert all_remembered("rate") == {}


def test_a_measurement_that_fails_is_not_remembered_and_leaves_no_lock():
    with pytest.raises(RuntimeError, match="no gpu"):
        remembered("rate", "gpu", lambda: (_ for _ in ()).throw(RuntimeError("no gpu")))
    assert remembered("rate", "gpu", lambda: 1) == 1


def test_two_that_ask_at_once_measure_once():
    calls = []

    def measure_slowly() -> int:
        calls.append(1)
        time.sleep(0.2)
        return 7

    with ThreadPoolExecutor(3) as pool:
        values = list(pool.map(lambda _: remembered("rate", "gpu", measure_slowly), range(3)))
    assert values == [7, 7, 7] and len(calls) == 1
