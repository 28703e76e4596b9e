"""What is checked against what: README's table of the code and numbers of others, written by the test run itself.

Tests say it with `@pytest.mark.against("timm", "outputs and gradients, per factor", "1e-9, 1e-8")`. A run of the whole
suite gathers the marks of what passed; `--evidence=check` fails where README has another table, `write` writes it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import pytest

REWRITE = "nox -s tests -- --evidence=write"
FAST = ("", "not slow")
"""Selections by marker that run every test that counts: the slow ones do not, whether they run or not."""

_BLOCK = re.compile(r"(?<=<!-- evidence: nox -s tests -->\n).*?(?=<!-- end of evidence -->)", re.DOTALL)


class Claim(NamedTuple):
    """What a mark says: the code or numbers of whom, what is compared with them, and how far apart they may be."""

    peer: str
    what: str
    bound: str


def table(claims: Iterable[Claim]) -> str:
    """Markdown: one row for equal claims, with their number; sorted by peer, then by what is compared."""
    rows = [("code or numbers of", "what is compared", "bound", "cases"), ("---", "---", "---", "---:")]
    for claim, cases in sorted(Counter(claims).items(), key=lambda row: [text.casefold() for text in row[0]]):
        rows.append((*(text.replace("|", r"\|") for text in claim), str(cases)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def filled(text: str, claims: Iterable[Claim]) -> str:
    """`text` with the table of `claims` in its marked block. Raises ValueError where there is not one such block."""
    if len(_BLOCK.findall(text)) != 1:
        raise ValueError("there must be one block <!-- evidence: nox -s tests --> … <!-- end of evidence -->")
    return _BLOCK.sub(lambda _: f"\n{table(claims)}\n\n", text)


def versions(claims: Iterable[Claim]) -> list[str]:
    """`timm 1.0.31` for every peer that is an installed distribution; papers have no version."""
    found = []
    for peer in sorted({claim.peer for claim in claims}, key=str.casefold):
        try:
            found.append(f"{peer} {version(peer)}")
        except (PackageNotFoundError, ValueError):  # ValueError: no name of a distribution at all
            continue
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--evidence",
        choices=("off", "check", "write"),
        default="off",
        help="README's table of what is checked against what: fail where this run gives another, or write it",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Evidence(config))


AGAINST = "against"
"""The property of a report that carries the claims of its test: tests may run in processes of their own (pytest-xdist)."""


class Evidence:
    """Follows a run from the collected marks to the verdict on README's table, which the process that sums up gives."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.mode: str = config.getoption("--evidence", default="off")
        self.readme = config.rootpath / "README.md"
        self.passed: list[Claim] = []
        self.lost: list[str] = []
        """Why marked tests, or whole files of tests, were skipped: their rows may be missing."""
        self.narrowed: list[str] = []
        self.said: list[str] = []
        if self.mode != "off" and not hasattr(config, "workerinput"):
            self.narrowed = narrowed_by(config)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        if not all(item.get_closest_marker("slow") for item in items):
            self.narrowed.append("tests were deselected")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            if item.get_closest_marker("slow"):
                continue
            for mark in item.iter_markers("against"):
                try:
                    item.user_properties.append((AGAINST, tuple(Claim(*mark.args, **mark.kwargs))))
                except TypeError:
                    raise pytest.UsageError(f"{item.nodeid}: give the marker against(peer, what, bound)") from None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.lost.append(reason(report))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        claims = [Claim(*value) for name, value in report.user_properties if name == AGAINST]
        if report.skipped and claims:
            self.lost.append(reason(report))
        elif report.when == "call" and report.passed:
            self.passed += claims

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """What a worker of pytest-xdist saw while it collected."""
        output = getattr(node, "workeroutput", {})
        self.lost += output.get("lost", [])
        self.narrowed += output.get("narrowed", [])

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput.update(lost=self.lost, narrowed=self.narrowed)
            return
        if self.mode == "off" or exitstatus != pytest.ExitCode.OK:
            return
        if self.narrowed:
            self._fail(session, f"needs the whole suite, but {' and '.join(dict.fromkeys(self.narrowed))}")
            return
        before = self.readme.read_text(encoding="utf-8")
        after = filled(before, self.passed)
        skipped = f", but tests were skipped: {'; '.join(dict.fromkeys(self.lost))}" if self.lost else ""
        if self.mode == "write":
            self.readme.write_text(after, encoding="utf-8")
            self.said.append(f"README.md written{skipped}")
        elif after != before:
            self._fail(session, f"README.md has another table than this run gives (rewrite it: {REWRITE}){skipped}")
        else:
            self.said.append(f"README.md has this run's {len(set(self.passed))} rows, {len(self.passed)} cases")
        if self.passed:
            self.said.append(f"against {', '.join(versions(self.passed))}")

    def _fail(self, session: pytest.Session, why: str) -> None:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self.said.append(f"FAILED: {why}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self.said:
            terminalreporter.write_line(f"evidence: {line}")


def narrowed_by(config: pytest.Config) -> list[str]:
    """Why this run is not of the whole suite, as far as its options say."""
    reasons = [
        f"{option} was given"
        for option in ("-k", "--ignore", "--ignore-glob", "--deselect", "--lf", "--sw", "--collect-only")
        if config.getoption(option, default=None)
    ]
    if config.getoption("-m") not in FAST:
        reasons.append(f"-m {config.getoption('-m')!r} was given")
    whole = {config.rootpath / path for path in config.getini("testpaths")}
    if {config.invocation_params.dir / path for path in config.args} != whole:
        reasons.append(f"only {' '.join(config.args)} was run")
    return reasons


def reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Why a test, or a file of tests, was skipped; expected failures have no reason of this form."""
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else f"{report.nodeid} failed as expected"
    return why.removeprefix("Skipped: ")
