"""Are users' names drawn, whatever their letters and length, without a warning and without overlap?"""

from __future__ import annotations

from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager

from tests.made_up_records import make_record
from vitbench.analysis import plots
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.insides import figures
from vitbench.analysis.insides.confusion import confusion_figure
from vitbench.analysis.writing import drawing, glyphs
from vitbench.records import Design

CAT, DOG = "\N{CJK UNIFIED IDEOGRAPH-732B}", "\N{CJK UNIFIED IDEOGRAPH-72AC}"
STRANGE = [CAT + DOG, "\N{CAT}", "\N{ARABIC LETTER QAF}\N{ARABIC LETTER TAH}", "\udcff", "\x1b[2J", "plain"]
"""As class names and arms may be: letters that DejaVu Sans lacks, a byte that was not UTF-8, a terminal's command."""


def confusion(classes):
    counts = np.eye(len(classes), dtype=int) * 3 + 1
    return {"classes": classes, "counts": counts.tolist(), "top1": 0.6, "num_images": 100}


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch):
    monkeypatch.setattr(glyphs, "_reported", [])


@pytest.fixture
def font_with_cat(tmp_path, monkeypatch):
    """An installed font of one letter, the cat, and with an empty outline of the dog."""
    pen = TTGlyphPen(None)
    for move, point in (("moveTo", (0, 0)), ("lineTo", (900, 0)), ("lineTo", (450, 900))):
        getattr(pen, move)(point)
    pen.closePath()
    empty = TTGlyphPen(None).glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "cat", "dog"])
    builder.setupCharacterMap({ord(CAT): "cat", ord(DOG): "dog"})
    builder.setupGlyf({".notdef": empty, "cat": pen.glyph(), "dog": empty})
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", "cat", "dog"), (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Felidae", "styleName": "Regular", "psName": "Felidae-Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "felidae.ttf")
    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    fontManager.addfont(tmp_path / "felidae.ttf")
    caches = (glyphs._families, glyphs._has)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_letters_that_no_font_has_are_numbers_and_said_once_in_one_line(capfd):
    first = figures.render("confusion", confusion(STRANGE), "Run 0", formats=("svg", "png"))
    again = figures.render("confusion", confusion(STRANGE), "Run 0", formats=("svg",))
    said = capfd.readouterr()
    assert again["svg"] == first["svg"] and not said.out
    assert said.err.count("\n") == 1 and r"no installed font has \x1b \u72ac \u732b \udcff" in said.err
    with mpl.rc_context(drawing.STYLE):
        labels = [text.get_text() for text in confusion_figure(confusion(STRANGE), "Run 0").axes[0].get_yticklabels()]
    assert labels == ["class 0", "class 1", STRANGE[2], "class 3", "class 4", "plain"]


def test_a_font_that_has_the_letter_is_used_and_nothing_said(font_with_cat, capfd):
    svg = figures.render("confusion", confusion([CAT, "plain"]), "Run 0")["svg"].decode()
    assert "Felidae" in svg and not capfd.readouterr().err


def test_a_letter_without_an_outline_is_none(font_with_cat, capfd):
    svg = figures.render("confusion", confusion([CAT, DOG]), "Run 0")["svg"].decode()
    assert "Felidae" in svg and r"no installed font has \u72ac:" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["forest", "accuracy", "learning-rate", "cost", "curves"])
def test_arms_and_data_sets_of_any_letters_are_plotted(kind, capfd):
    arms = tuple(STRANGE)
    curve = [0.1 + 0.03 * epoch for epoch in range(20)]
    design = Design(question="?", source="", baseline=arms[0], arms=arms, learning_rates=(1e-3, 3e-3))
    records = [
        make_record(
            arm, seed=seed, learning_rate=rate, test=0.8 + 0.01 * index, curve=curve, design=design,
            cost={"macs": 3_000_000 + 10_000 * index, "train_seconds": 10.0 + index},
        )
        for index, arm in enumerate(arms) for seed in range(2) for rate in (1e-3, 3e-3)
    ]  # fmt: skip
    (comparison,) = compare(records)
    assert plots.render(comparison, kind)["svg"]
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and said.startswith("vitbench: no installed font has ")


@pytest.mark.parametrize(
    "name", ["{:03d} long-haired breeds of dogs", "a long-haired breed of dogs, no. {}", "{}", DOG + "{}"]
)
def test_three_hundred_class_names_lie_beside_each_other(name):
    classes = [name.format(i) for i in range(300)]
    with mpl.rc_context(drawing.STYLE):
        figure = confusion_figure(confusion(classes), "Run 0")
        figure.draw_without_rendering()
        matrix = figure.axes[0]
        for labels, side in ((matrix.get_xticklabels(), "x"), (matrix.get_yticklabels(), "y")):
            assert 20 <= len(labels) <= 30 and len({label.get_text() for label in labels}) == len(labels)
            boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: getattr(box, f"{side}0"))
            for before, after in pairwise(boxes):
                assert getattr(before, f"{side}1") <= getattr(after, f"{side}0")
        box = matrix.get_window_extent()
        assert box.width > 0.4 * figure.bbox.width and box.height > 0.4 * figure.bbox.height
        assert "One class in 10 is named" in " ".join(text.get_text() for text in figure.texts)


def test_a_name_is_cut_in_its_middle_and_wide_letters_count_twice():
    assert glyphs.brief("a short name", 16) == "a short name"
    cut = glyphs.brief("golden retriever, long-haired", 16)
    assert len(cut) == 16 and cut.startswith("golden") and cut.endswith("aired") and "…" in cut
    assert glyphs._columns(glyphs.brief("\N{FULLWIDTH LATIN SMALL LETTER A}" * 20, 16)) <= 16
