"""Does the figure of frozen features show the records' numbers, each where it belongs?"""

from __future__ import annotations

import pytest

from tests.made_up_transfer import make_transfer
from vitbench.analysis.charts.transfer import LINES, transfer_figure
from vitbench.analysis.drawing import PALETTE
from vitbench.analysis.plots import render_transfer, write_plots
from vitbench.analysis.transfer_tables import transfer_rows
from vitbench.records.transfer import TransferStore


def methods(**request):
    few = make_transfer("few-shot", {"25-shot": [0.6, 0.8], "5-shot": [0.1, 0.1, 0.4]}, **request)
    knn = make_transfer("knn", {"knn": [0.75], "knn-majority": [0.65]}, **request)
    return [few, knn, make_transfer("linear", {"linear": [0.875]}, **request)]


def drawn(axes):
    """(marker, line, x, y) of all that is drawn but single draws."""
    return [
        (
            line.get_marker(),
            line.get_linestyle(),
            list(line.get_xdata()),
            [round(float(y), 6) for y in line.get_ydata()],
        )
        for line in axes.get_lines()
        if len(line.get_xdata())
    ]


def test_lines_are_means_over_draws_and_points_what_is_fitted_to_all_images():
    figure = transfer_figure(transfer_rows(methods(), {}))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "25", "all"]
    line, linear, knn = drawn(axes)
    # By hand: (.1 + .1 + .4) / 3 and (.6 + .8) / 2. Votes of one each are in the table alone.
    assert line[0] == "o" and line[2:] == ([0, 1], [20, 70])
    assert linear[0] == "D" and linear[3] == [87.5] and knn[0] == "s" and knn[3] == [75]
    assert all(round(x) == 2 for point in (linear, knn) for x in point[2])
    draws = sorted(round(float(y), 6) for points in axes.collections for y in points.get_offsets()[:, 1])
    assert draws == [10, 10, 40, 60, 80]


def test_its_own_head_is_drawn_on_the_data_of_its_training_alone(made_up):
    trained = made_up(metrics={"test_top1": 0.9375, "val_top1": 0.5})
    records = [one for dataset in ("digits", "shapes") for one in methods(run_id=trained.run_id, dataset=dataset)]
    figure = transfer_figure(transfer_rows(records, {trained.run_id: trained}))
    heads = {axes.get_title(): [y for marker, _, _, y in drawn(axes) if marker == "P"] for axes in figure.axes}
    assert heads == {"digits": [[93.75]], "shapes": []}
    assert "the head that it was trained with" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_seeds_of_one_model_share_its_look_and_models_differ(made_up):
    runs = [made_up(seed=0), made_up(seed=1), made_up(arm="gap", seed=2)]
    records = [one for run in runs for one in methods(run_id=run.run_id, weights_sha256=run.run_id)]
    figure = transfer_figure(transfer_rows(records, {run.run_id: run for run in runs}))
    looks = [
        (line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines() if line.get_marker() == "o"
    ]
    assert len(looks) == 3 and len(set(looks)) == 2 and {color for color, _ in looks} == set(PALETTE[:2])
    assert len(LINES) == len(set(LINES))


def test_it_is_written_where_nothing_else_is_recorded_and_goes_with_its_records(tmp_path):
    with pytest.raises(ValueError, match="no records"):
        write_plots(tmp_path)
    store = TransferStore(tmp_path)
    for record in methods():
        store.append(record)
    paths = write_plots(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["plots/transfer.svg", "plots/transfer.png"]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_plots(tmp_path)] == before
    assert render_transfer([]) == {}
