"""Do the tables and the roofline of a device's profile say what its samples say, and what could not be measured?"""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ElementTree

import pytest

from tests.made_up_profiles import (
    CEILINGS,
    COLUMNS,
    DRIFTING,
    make_contest,
    make_part,
    make_row,
    make_throughput,
    make_trace,
    model_request,
    profile_in,
)
from tests.made_up_records import make_record
from vitbench.analysis.pages import print_tables, write_tables
from vitbench.analysis.plots import write_plots
from vitbench.analysis.profile.contests import summary
from vitbench.analysis.profile.notes import left_out
from vitbench.analysis.profile.profile import shares
from vitbench.analysis.profile.roofline import points_of, roofline_figure, roofs_of
from vitbench.analysis.profile.tables import tables_of, throughput, write_profiles
from vitbench.analysis.writing.drawing import rendered
from vitbench.analysis.writing.table import csv_text
from vitbench.config import ViTConfig
from vitbench.costs.macs import count


def test_throughput_has_a_row_for_each_and_says_why_one_is_empty(tmp_path):
    good = make_row("vitbench", [0.1, 0.2, 0.4], peak_memory_bytes=3 * 2**20)
    bad = make_row("vitbench", [], compiled=True, settled=False, reason="out of memory at batch 16")
    make_throughput(tmp_path, good, bad)
    table = throughput(profile_in(tmp_path))
    first, second = table.rows[0], table.rows[1]
    assert first["images/s [95 %]"] == "80.0 [72.0, 88.0]" and first["p50 (ms)"] == "200.00"
    assert first["p99 (ms)"] == "400.00" and first["peak memory (MiB)"] == "3.00" and first["n"] == "3"
    assert second["images/s [95 %]"] == "–" and second["n"] == "0"
    assert "S/16, 224 px, train, bf16 compiled: out of memory at batch 16." in table.notes


def test_the_last_block_is_a_column_where_both_ways_were_asked_for(tmp_path):
    rows = [make_row("vitbench", [0.1] * 3, last_block=tokens) for tokens in ("class token", "all tokens")]
    make_throughput(tmp_path, *rows)
    table = throughput(profile_in(tmp_path))
    assert "last block" not in table.rows[0] and "last_block" not in table.raw[0]
    make_part(
        tmp_path, "throughput/S-16-224px-batch16-train", {**model_request("train"), "full_tokens": True}, {"rows": rows}
    )
    table = throughput(profile_in(tmp_path))
    assert [row["last block"] for row in table.rows] == ["class token", "all tokens"]
    assert [row["last_block"] for row in table.raw] == ["class token", "all tokens"]


TRACE = [
    ("blocks.0.attention", "blocks.0", "attention", "linear", "forward", 0.1, 2, 10 * 10**9, 10**9),
    ("blocks.0.mlp", "blocks.0", "mlp", "linear", "backward", 0.3, 4, 30 * 10**9, 3 * 10**9),
    ("blocks.1.mlp", "blocks.1", "mlp", "activation", "forward", 0.5, 1, 0, 4 * 10**9),
    ("blocks.1.attention", "blocks.1", "attention", "attention", "forward", 0.1, 1, 2 * 10**9, 2 * 10**9),
]
"""Linear: 40 GFLOP of 4 GB in 0.4 s; attention: 2 GFLOP of 2 GB in 0.1 s; 10 GB in 1 s in all."""


def test_a_step_s_time_is_told_by_kind_by_role_and_by_block(tmp_path):
    make_trace(tmp_path, *TRACE)
    profile = profile_in(tmp_path)
    tables = {table.name: table for table in tables_of(profile)}
    kinds = tables["time-by-kind"].rows[:3]
    assert [row["kind"] for row in kinds] == ["linear", "activation", "attention"]
    assert kinds[0]["share"] == "40.0%" and kinds[0]["ms a step"] == "400.00" and kinds[0]["calls"] == "6"
    assert kinds[0]["GFLOP/s"] == "100" and kinds[0]["FLOP/byte"] == "10.0"
    assert kinds[1]["GFLOP/s"] == kinds[1]["FLOP/byte"] == "–"
    (part,) = profile.of("traces")
    assert {name: share.seconds for name, share in shares(part, "role").items()} == {
        "attention": pytest.approx(0.2),
        "mlp": pytest.approx(0.8),
    }
    assert [row["block"] for row in tables["time-by-block"].rows] == ["blocks.0", "blocks.1"]


def test_points_of_the_roofline_are_where_counts_and_times_put_them(tmp_path):
    make_trace(tmp_path, *TRACE)
    make_throughput(tmp_path, make_row("vitbench", [0.8, 0.8, 0.8]))
    points = {point.kind: point for point in points_of(profile_in(tmp_path))}
    assert set(points) == {"", "linear", "attention"}
    assert (points["linear"].intensity, points["linear"].rate) == (10, pytest.approx(100e9))
    assert (points["attention"].intensity, points["attention"].rate) == (1, pytest.approx(20e9))
    # 16 images × 6 FLOPs × 1 GMAC are 96 GFLOP, of 10 GB, in 0.8 s.
    assert (points[""].intensity, points[""].rate) == (pytest.approx(9.6), pytest.approx(120e9))


def test_a_model_has_no_point_without_its_throughput_at_the_traced_setting(tmp_path):
    make_trace(tmp_path, *TRACE)
    make_throughput(tmp_path, make_row("vitbench", [0.8] * 3, compiled=True))
    assert "" not in {point.kind for point in points_of(profile_in(tmp_path))}


def test_roofs_are_the_best_that_any_part_measured(tmp_path):
    faster = {"flops_per_second": {"fp32": 90e9, "bf16": 500e9}, "bytes_per_second": 25e9}
    make_part(tmp_path, "ceilings", {}, {"ceilings": CEILINGS})
    make_throughput(tmp_path, make_row("vitbench", [0.8] * 3), ceilings=faster)
    roofs = roofs_of(profile_in(tmp_path))
    assert roofs.flops_per_second == {"fp32": 100e9, "bf16": 500e9}
    assert roofs.at(2, "bf16") == 50e9 and roofs.at(1000, "bf16") == 500e9 and roofs.at(1000, "fp32") == 100e9


def test_the_roofline_has_log_axes_with_units_and_a_panel_for_each_mode(tmp_path):
    for mode in ("infer", "train"):
        make_trace(tmp_path, *TRACE, mode=mode)
        make_throughput(tmp_path, make_row("vitbench", [0.8] * 3, mode=mode), mode=mode)
    profile = profile_in(tmp_path)
    figure = roofline_figure(profile)
    assert [axes.get_title() for axes in figure.axes] == ["infer", "train"]
    assert all(axes.get_xscale() == axes.get_yscale() == "log" for axes in figure.axes)
    assert all("(FLOP/byte, log scale)" in axes.get_xlabel() for axes in figure.axes)
    assert "GFLOP/s (log scale)" in figure.axes[0].get_ylabel()
    # The limits are those of points and roofs, within a factor of two: 1 to 16 FLOP/byte, 20 to 400 GFLOP/s.
    assert 0.5 < figure.axes[1].get_xlim()[0] < 1 and 10 < figure.axes[1].get_ylim()[0] < 20
    ridge = max(CEILINGS["flops_per_second"].values()) / CEILINGS["bytes_per_second"]
    assert ridge < figure.axes[1].get_xlim()[1] < 2 * ridge and 400 < figure.axes[1].get_ylim()[1] < 800
    drawn = sorted(tuple(dots.get_offsets()[0]) for dots in figure.axes[1].collections)
    assert drawn == [pytest.approx((1, 20)), pytest.approx((9.6, 120)), pytest.approx((10, 100))]
    first, second = (rendered(lambda: roofline_figure(profile), ("svg", "png")) for _ in range(2))
    assert first == second and all(len(content) < 150_000 for content in first.values())
    assert ElementTree.fromstring(first["svg"]).tag.endswith("svg")


@pytest.mark.parametrize(("table", "peers_too"), [("throughput", False), ("summary", True)])
def test_what_a_class_token_leaves_out_is_said_beside_its_images_per_second(tmp_path, table, peers_too):
    make_contest(tmp_path, {"vitbench": [1.0] * 3, "timm": [2.0] * 3})
    make_throughput(tmp_path, make_row("vitbench", [0.8] * 3))
    tables = {table.name: table for table in tables_of(profile_in(tmp_path))}
    (note,) = (note for note in tables[table].notes if "class token alone" in note)
    # By hand, Ti/16 at 224: 196 of 197 tokens of 192 channels: attention, projection and MLP of 4 × 192 hidden units.
    unread = 2 * 196 * 197 * 192 + 196 * 192**2 + 2 * 196 * 192 * 768
    share = f"{100 * unread / count(ViTConfig(patch_size=16)).macs:.2g} % (S/16, 224 px)"
    assert share in note and ("Peers compute all tokens." in note) is peers_too


def test_parts_measured_with_another_torch_are_left_out_and_named(tmp_path):
    make_contest(tmp_path, {"vitbench": [1.0] * 3, "timm": [2.0] * 3}, torch="2.13.0", finished="2026-10-01")
    make_contest(tmp_path, {"vitbench": [1.0] * 3, "timm": [3.0] * 3}, pool="gap")
    profile = profile_in(tmp_path)
    assert [row["pooling"] for row in summary(profile).rows] == ["gap"]
    (note,) = left_out(profile)
    assert "torch 2.13.0" in note and "peers/S-16-224px-batch16-cls-train" in note


def test_narrow_latex_tables_are_not_stretched_and_wide_ones_are_made_to_fit(tmp_path):
    make_contest(tmp_path, DRIFTING)
    for path in (path for path in write_profiles(tmp_path) if path.suffix == ".tex"):
        head, body = path.read_text().split("\n", 1)
        assert "booktabs,adjustbox" in head and "resizebox" not in body
        assert body.index(r"\begin{adjustbox}{max width=\linewidth}") < body.index(r"\begin{tabular}")


def test_a_part_that_could_not_be_measured_is_on_the_page(tmp_path):
    make_part(tmp_path, "traces/S-16-224px-batch16-infer", model_request("infer"), {}, reason="ValueError: no step")
    write_profiles(tmp_path)
    page = (tmp_path / "profiles" / "cpu-example" / "README.md").read_text()
    assert "traces/S-16-224px-batch16-infer was not measured: ValueError: no step." in page


def test_tables_and_plots_are_written_where_there_are_profiles_but_no_records(tmp_path, capsys):
    make_contest(tmp_path, DRIFTING)
    make_trace(tmp_path, *TRACE)
    folder = tmp_path / "profiles" / "cpu-example"
    assert {folder / "tables" / "summary.md", folder / "README.md"} <= set(write_tables(tmp_path))
    print_tables(tmp_path)
    assert write_plots(tmp_path) == [folder / "plots" / "roofline.svg", folder / "plots" / "roofline.png"]
    assert not (tmp_path / "tables").exists()


def test_with_records_too_both_are_written(store_with):
    root = store_with(make_record("cls", test=0.9), make_record("gap", test=0.91))
    make_contest(root, DRIFTING)
    written = {path.relative_to(root).as_posix() for path in write_tables(root)}
    assert {
        "tables/README.md",
        "profiles/cpu-example/tables/peers.csv",
        "profiles/cpu-example/tables/peers.tex",
    } <= written


def test_a_table_that_nothing_gives_any_more_is_removed_and_what_is_not_ours_stays(tmp_path):
    part = make_trace(tmp_path, *TRACE)
    make_contest(tmp_path, DRIFTING)
    write_profiles(tmp_path)
    folder = tmp_path / "profiles" / "cpu-example"
    (folder / "tables" / "mine.md").write_text("notes")
    (folder / f"{part.name}.json").unlink()
    write_profiles(tmp_path)
    left = {path.name for path in (folder / "tables").iterdir()}
    assert "mine.md" in left and "peers.tex" in left and "time-by-kind.csv" not in left


def test_a_file_that_is_no_part_is_named(tmp_path):
    make_contest(tmp_path, DRIFTING)
    (tmp_path / "profiles" / "cpu-example" / "ceilings.json").write_text("{")
    with pytest.raises(ValueError, match=r"ceilings\.json' is not a part of a profile"):
        profile_in(tmp_path)


def timm_request(mode, **options):
    model = {"timm": "resnet18", "image_size": 32, "in_channels": 3, "num_classes": 10, "options": options}
    return {"variant": "timm:resnet18", "model": model, "mode": mode, "batch_size": 16}


SMALLER = {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32]}
LABEL = "timm:resnet18 (layers=[1, 1, 1, 1], channels=[8, 16, 24, 32]), 32 px"


def make_timm(root):
    """A profile with two models of timm, one of them smaller than its name, beside one of ours."""
    counts = {"params": 10, "macs": 10**9, "activations": 5}
    make_throughput(root, make_row("vitbench", [0.8, 0.8, 0.8]))
    make_trace(root, *TRACE)
    make_part(root, "flops/S-16-224px", model_request("train"), counts)
    resnet = [("layer1", "layer1", "layer1", "convolution", "forward", 0.5, 1, 10**10, 10**9)]
    steps = {"precision": "bf16", "compiled": False, "step_seconds": 0.5, "steps": 1, "columns": list(COLUMNS)}
    for name, options in (("timm-resnet18-0123abcd-32px", SMALLER), ("timm-resnet18-32px", {})):
        request = timm_request("train", **options)
        row = make_row("vitbench", [0.4, 0.4, 0.4], variant="timm:resnet18")
        make_part(root, f"flops/{name}", request, {**counts, "counters": ["fvcore", "FlopCounterMode"]})
        make_part(root, f"throughput/{name}-batch16-train", request, {"rows": [row], "ceilings": CEILINGS})
        make_part(root, f"traces/{name}-batch16-train", request, {**steps, "rows": resnet})


def test_models_of_timm_stand_beside_ours_under_names_that_tell_them_apart(tmp_path):
    make_timm(tmp_path)
    tables = {table.name: table for table in tables_of(profile_in(tmp_path))}
    assert set(tables) == {"throughput", "time-by-kind", "time-by-role", "time-by-block", "flops", "ceilings"}
    for name in ("throughput", "time-by-block", "flops"):
        assert {row["model"] for row in tables[name].rows} == {"S/16, 224 px", LABEL, "timm:resnet18, 32 px"}
    (small,) = (
        row for row in csv.DictReader(io.StringIO(csv_text(tables["throughput"].raw))) if "channels" in row["variant"]
    )
    assert (small["variant"] + ", 32 px", small["pool"], small["images_per_second"]) == (
        LABEL,
        "",
        "40.0",
    )  # 16 in 0.4 s
    shown = [row["block"] for row in tables["time-by-block"].rows if row["model"] == LABEL]
    assert shown == ["layer1"]
    models = f"{LABEL}; timm:resnet18, 32 px."
    by_parts = f"Models of timm have timm's names of modules in place of our parts: {models}"
    assert tables["time-by-role"].notes == tables["time-by-block"].notes == [by_parts]
    assert tables["time-by-kind"].notes == []
    assert tables["flops"].notes == [
        f"Not counted part by part in closed form for models of timm; fvcore and FlopCounterMode agree: {models}"
    ]
    written = {path.relative_to(tmp_path / "profiles" / "cpu-example").as_posix() for path in write_tables(tmp_path)}
    assert {"README.md", "tables/throughput.tex", "tables/flops.md"} <= written


def test_the_roofline_s_legend_has_room_for_the_options_of_models_of_timm(tmp_path):
    make_timm(tmp_path)
    profile = profile_in(tmp_path)
    assert {point.model for point in points_of(profile) if not point.kind} == {
        "S/16, 224 px",
        LABEL,
        "timm:resnet18, 32 px",
    }
    figure = roofline_figure(profile)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert LABEL in {text.get_text().replace("\n", " ") for text in legend.get_texts()}
    box, width = legend.get_window_extent(), figure.get_window_extent().width
    assert box.x0 >= 0 and box.x1 <= width
