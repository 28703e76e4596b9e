"""Is what fails on a record told, unless it is no fault of the record?"""

from __future__ import annotations

import pytest

from vitbench.records.faults import Faults


def left_out(error: BaseException, path) -> Faults:
    faults = Faults(say=lambda _: None)
    with faults.leaving_out(path):
        raise error
    return faults


def test_what_fails_for_want_of_memory_is_no_fault_of_the_records(tmp_path):
    with pytest.raises(MemoryError):
        left_out(MemoryError(), tmp_path)


def test_what_fails_is_said_with_the_switch_that_shows_its_traceback(tmp_path, monkeypatch):
    (fault,) = left_out(KeyError("arm"), tmp_path)
    assert "KeyError: 'arm'" in str(fault) and "VITBENCH_TRACEBACK=1 shows where" in str(fault)
    monkeypatch.setenv("VITBENCH_TRACEBACK", "1")
    with pytest.raises(KeyError):
        left_out(KeyError("arm"), tmp_path)
