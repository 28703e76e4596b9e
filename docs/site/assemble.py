"""Gathers the pages of the documentation in one folder, laid out as the repository, so that its links stay as they are.

`python docs/site/assemble.py`; then `mkdocs build --strict --config-file docs/site/mkdocs.yml`. Added are a page with all
plots and one with the Python interface, whose text is in the docstrings.
"""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / ".nox" / "docs" / "source"
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "docs",
    "results",
    "benchmarks",
    "tests",
    "vitbench",
)
KINDS = {".md", ".png", ".svg", ".json", ".csv", ".py", ".toml", ".tex", ""}
"""Suffixes of what pages lead to."""
LEFT_OUT = {"records", "checkpoints", "site", "local", "__pycache__"}
INTERFACE = {
    "Configuration": (
        "config.ViTConfig",
        "config.TimmConfig",
        "config.DataConfig",
        "config.TrainConfig",
        "config.RunConfig",
    ),
    "Models": ("models.build_model", "models.ViT", "models.convert"),
    "Studies": ("studies.Study", "studies.Arm"),
    "Results": ("load", "analysis.frames.Results", "records.RecordStore", "records.Record"),
    "Statistics": ("analysis.statistics.sequential.repeated_interval",),
}
"""What stays as it is from version to version: heading to names below `vitbench`."""


def assemble(source: Path = SOURCE) -> None:
    shutil.rmtree(source, ignore_errors=True)
    for name in PAGES:
        path = ROOT / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            place = file.relative_to(ROOT)
            if file.is_file() and file.suffix in KINDS and not LEFT_OUT & set(place.parts):
                (source / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, source / place)
    (source / "gallery.md").write_text(_gallery())
    (source / "speed.md").write_text(_speed())
    (source / "python.md").write_text(_interface())


def _interface() -> str:
    """What mkdocstrings fills from the docstrings."""
    sections = ["# From Python"]
    for heading, names in INTERFACE.items():
        sections += [f"## {heading}", *(f"::: vitbench.{name}" for name in names)]
    return "\n\n".join(sections) + "\n"


def _speed() -> str:
    """The profiles of all devices."""
    pages = sorted((ROOT / "results" / "reference" / "profiles").glob("*/README.md"))
    links = (f"- [{page.parent.name}]({page.relative_to(ROOT).as_posix()})" for page in pages)
    return "\n".join(["# Speed", "", "Measured by `nox -s profile`, device by device:", "", *links]) + "\n"


def _gallery() -> str:
    """All plots of the reference results, study by study."""
    plots = ROOT / "results" / "reference" / "plots"
    lines = ["# Gallery of plots", "", "Drawn by `vitbench plots` from the committed records."]
    for folder in sorted(path for path in plots.iterdir() if path.is_dir()):
        lines += ["", f"## {folder.name}"]
        for plot in sorted(folder.glob("*.png")):
            lines += [
                "",
                f"### {plot.stem}",
                "",
                f"![{plot.stem}]({plot.relative_to(ROOT).as_posix()}){{ loading=lazy }}",
            ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    assemble()
