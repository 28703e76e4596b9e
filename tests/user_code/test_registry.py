"""Does another process come to know a user's code as this one does, and does standard output stay ours?"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from vitbench.user_code import carried, load_file, register

FILE = """
print("loaded")

def double(x):
    return 2 * x
"""


def load_elsewhere(code):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(code.load).result()


@pytest.fixture
def code(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    (code,) = carried([register(load_file(tmp_path / "mine.py", "study").double, "activation")])
    return code


def test_what_a_file_prints_goes_to_standard_error_in_another_process_too(code, capfd):
    load_elsewhere(code)
    said = capfd.readouterr()
    assert said.out == "" and said.err == "loaded\n"


def test_a_file_that_fails_in_another_process_alone_is_one_line_with_its_place(code, tmp_path):
    (tmp_path / "mine.py").write_text(FILE + "1 / 0\n")
    with pytest.raises(ValueError, match=r"^code 'double@\w{8}' line 6 fails: ZeroDivisionError: division by zero$"):
        load_elsewhere(code)


def test_what_an_imported_module_prints_goes_to_standard_error(tmp_path, monkeypatch, capsys):
    (tmp_path / "module_that_prints.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path)
    register("module_that_prints:double", "activation")
    del sys.modules["module_that_prints"]
    said = capsys.readouterr()
    assert said.out == "" and said.err == "loaded\n"
