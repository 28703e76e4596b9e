"""Is README's table of what is checked against what that of the tests which ran, and does a run notice when it is not?"""

from __future__ import annotations

import ast
import re
from importlib.metadata import version

import pytest

from tests.evidence import REWRITE, Claim, filled, table, versions
from tests.readme import README, ROOT

pytest_plugins = ["pytester"]

EMPTY = "# Read me\n\n<!-- evidence: nox -s tests -->\n<!-- end of evidence -->\n\nThe rest.\n"
SUITE = """
    import pytest

    @pytest.mark.parametrize("n", range(3))
    @pytest.mark.against("timm", "outputs", "1e-9")
    def test_outputs(n): pass

    @pytest.mark.against("a paper", "counts | sums", bound="exactly")
    def test_counts(): pass

    @pytest.mark.slow
    @pytest.mark.against("timm", "outputs", "1e-9")
    def test_at_length(): pass

    def test_unmarked(): pass
"""
ROWS = """
| code or numbers of | what is compared | bound | cases |
| --- | --- | --- | ---: |
| a paper | counts \\| sums | exactly | 1 |
| timm | outputs | 1e-9 | 3 |

"""
FULL = EMPTY.replace("tests -->\n", f"tests -->\n{ROWS}")


def test_equal_claims_are_one_row_with_their_number_sorted_by_peer_then_by_what():
    claims = [
        Claim("timm", "outputs", "1e-9"),
        Claim("Torch", "gradients", "1e-8"),
        Claim("timm", "gradients", "1e-8"),
        Claim("timm", "outputs", "1e-9"),
        Claim("scipy", "t | F", "exactly"),
    ]
    assert table(claims) == table(claims[::-1])
    assert table(claims).splitlines() == [
        "| code or numbers of | what is compared | bound | cases |",
        "| --- | --- | --- | ---: |",
        "| scipy | t \\| F | exactly | 1 |",
        "| timm | gradients | 1e-8 | 1 |",
        "| timm | outputs | 1e-9 | 2 |",
        "| Torch | gradients | 1e-8 | 1 |",
    ]


def test_the_table_replaces_what_is_between_the_two_comments_and_nothing_else():
    once = filled(EMPTY, [Claim("timm", r"\1 and \g<0>", "1e-9")])
    assert once.startswith("# Read me\n\n<!-- evidence") and once.endswith("<!-- end of evidence -->\n\nThe rest.\n")
    assert r"| timm | \1 and \g<0> | 1e-9 | 1 |" in once
    assert filled(once, []).count("\n| ") == 2
    assert filled(filled(once, []), [Claim("timm", r"\1 and \g<0>", "1e-9")]) == once


@pytest.mark.parametrize("text", ["nothing", EMPTY + EMPTY])
def test_a_text_without_one_block_is_refused(text):
    with pytest.raises(ValueError, match="one block <!-- evidence: nox -s tests -->"):
        filled(text, [])


def test_versions_are_those_of_the_peers_that_are_distributions():
    claims = [Claim(peer, "x", "y") for peer in ("torch", "timm", "Dosovitskiy et al. 2021", "timm", "")]
    assert versions(claims) == [f"timm {version('timm')}", f"torch {version('torch')}"]


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of its own whose tests carry marks, and a README that holds their table."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # a second a run
    pytester.makepyprojecttoml("""
        [tool.pytest.ini_options]
        testpaths = ["tests"]
        markers = ["slow: no", "against(peer, what, bound): yes"]
    """)
    pytester.makeconftest('pytest_plugins = ["tests.evidence"]')
    pytester.mkdir("tests")
    pytester.path.joinpath("README.md").write_text(FULL)
    write(pytester, SUITE)
    return pytester


def write(pytester: pytest.Pytester, code: str, name: str = "test_it") -> None:
    made = pytester.makepyfile(**{name: code})
    made.rename(pytester.path / "tests" / made.name)


def run(pytester: pytest.Pytester, *arguments: str) -> tuple[int, str]:
    """The exit status and the lines of the summary."""
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)
    lines = [line for line in result.outlines + result.errlines if line.startswith(("evidence: ", "ERROR: "))]
    return int(result.ret), "\n".join(lines)


def readme(pytester: pytest.Pytester) -> str:
    return (pytester.path / "README.md").read_text()


@pytest.mark.parametrize("selection", [(), ("-m", "not slow"), ("tests",)])
def test_a_run_of_the_whole_suite_finds_its_table_in_readme_with_or_without_the_slow_tests(suite, selection):
    status, said = run(suite, "--evidence=check", *selection)
    assert status == 0 and "README.md has this run's 2 rows, 4 cases" in said
    assert f"against timm {version('timm')}" in said and readme(suite) == FULL


def test_without_the_option_no_word_is_said(suite):
    suite.path.joinpath("README.md").write_text(EMPTY)
    assert run(suite) == (0, "") and readme(suite) == EMPTY


def test_another_table_fails_the_check_with_the_command_that_rewrites_it_and_writing_mends_it(suite):
    suite.path.joinpath("README.md").write_text(FULL.replace("| 3 |", "| 4 |"))
    status, said = run(suite, "--evidence=check")
    assert status == 1 and REWRITE in said and "README.md has another table" in said
    assert run(suite, "--evidence=write")[0] == 0 and readme(suite) == FULL
    assert run(suite, "--evidence=check")[0] == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def test_counts(): pass", "def test_counts(): pytest.importorskip('nowhere', reason='no nowhere here')"),
        ("    import pytest", "    import pytest; pytest.importorskip('nowhere', reason='no nowhere here')"),
        ('@pytest.mark.against("a paper"', '@pytest.mark.skipif(True, reason="no nowhere here")\n    \\g<0>'),
    ],
)
def test_a_peer_that_is_not_there_fails_the_check_with_the_reason_of_the_skip(suite, before, after):
    write(suite, re.sub(re.escape(before), after, SUITE))
    write(suite, "def test_more(): pass", name="test_more")
    status, said = run(suite, "--evidence=check")
    assert status == 1 and "README.md has another table" in said
    assert said.endswith(", but tests were skipped: no nowhere here") or "no nowhere here\n" in said


def test_a_run_that_failed_checks_and_writes_nothing(suite):
    suite.path.joinpath("README.md").write_text(EMPTY)
    write(suite, SUITE.replace("def test_counts(): pass", "def test_counts(): assert False"))
    for mode in ("check", "write"):
        assert run(suite, f"--evidence={mode}") == (1, "")
    assert readme(suite) == EMPTY


@pytest.mark.parametrize(
    ("narrowed", "reason"),
    [
        (("-k", "counts"), "-k was given"),
        (("--deselect", "tests/test_it.py::test_counts"), "--deselect was given and tests were deselected"),
        (("--ignore", "elsewhere"), "--ignore was given"),
        (("-m", "slow"), "-m 'slow' was given"),
        (("tests/test_it.py",), "only tests/test_it.py was run"),
        (("--collect-only",), "--collect-only was given"),
    ],
)
def test_a_part_of_the_suite_can_neither_check_nor_write_the_table(suite, narrowed, reason):
    suite.path.joinpath("README.md").write_text(EMPTY)
    for mode in ("check", "write"):
        status, said = run(suite, f"--evidence={mode}", *narrowed)
        assert status == 1 and f"needs the whole suite, but {reason}" in said
    assert readme(suite) == EMPTY


def test_a_mark_without_its_three_parts_is_refused(suite):
    write(suite, SUITE.replace('"a paper", ', ""))
    status, said = run(suite)
    assert status == 4 and "test_it.py::test_counts: give the marker against(peer, what, bound)" in said


def test_readme_has_the_block_and_nox_runs_the_check():
    assert "| code or numbers of |" in filled(README.read_text(), [])
    noxfile = ast.parse((ROOT / "noxfile.py").read_text())
    (session,) = (node for node in noxfile.body if isinstance(node, ast.FunctionDef) and node.name == "tests")
    assert {"--evidence=check", "not slow"} <= {n.value for n in ast.walk(session) if isinstance(n, ast.Constant)}


@pytest.mark.parametrize(
    ("selection", "says"), [("not slow", "README.md has this run's 2 rows, 4 cases"), ("slow", "")]
)
def test_tests_in_processes_of_their_own_give_the_same_table(suite, selection, says):
    result = suite.runpytest_subprocess(
        *("-p", "no:cacheprovider", "-p", "xdist.plugin", "-n", "2", "-m", selection, "--evidence=check")
    )
    (line,) = [line for line in result.outlines if line.startswith("evidence: ") and "against" not in line]
    assert (result.ret == 0) == (says != "") and (says or "needs the whole suite, but -m 'slow' was given") in line
