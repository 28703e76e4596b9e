"""Does the figure of frozen features show the records' numbers, each where it belongs?"""

from __future__ import annotations

import pytest

from tests.made_up_records import NANO
from tests.made_up_transfer import make_transfer
from vitbench.analysis.plots import write_plots
from vitbench.analysis.transfer.chart import labels_of, transfer_figure
from vitbench.analysis.transfer.tables import transfer_rows
from vitbench.config import DataConfig, RunConfig, TrainConfig
from vitbench.records import RecordStore
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


@pytest.mark.parametrize(("images", "drawn_on_digits"), [(None, [[93.75]]), (256, [])])
def test_its_own_head_is_drawn_on_the_data_of_its_training_where_it_saw_all_of_them(made_up, images, drawn_on_digits):
    config = RunConfig(model=NANO, data=DataConfig(train_images=images), train=TrainConfig(epochs=1))
    trained = made_up(config=config, metrics={"test_top1": 0.9375, "val_top1": 0.5}, correct="")
    records = [one for dataset in ("digits", "shapes") for one in methods(run_id=trained.run_id, dataset=dataset)]
    figure = transfer_figure(transfer_rows(records, {trained.run_id: trained}))
    heads = {axes.get_title(): [y for marker, _, _, y in drawn(axes) if marker == "P"] for axes in figure.axes}
    assert heads == {"digits": drawn_on_digits, "shapes": []}
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("the head that it was trained with" in names) == bool(drawn_on_digits)


def test_seeds_of_one_model_share_its_look_and_every_other_model_has_another(made_up):
    runs = [made_up(seed=0), made_up(seed=1)]
    # By data, recipe and budget: what is called alike in a table row.
    for epochs in range(2, 15):
        config = RunConfig(model=NANO, data=DataConfig(train_images=256), train=TrainConfig(epochs=epochs), seed=0)
        runs.append(made_up(config=config))
    elsewhere = runs[0].config.replace(data=DataConfig(dataset="shapes", train_images=256))
    runs.append(made_up(config=elsewhere))
    records = [one for run in runs for one in methods(run_id=run.run_id, weights_sha256=run.run_id)]
    rows = transfer_rows(records, {run.run_id: run for run in runs})
    figure = transfer_figure(rows)
    looks = [
        (line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines() if line.get_marker() == "o"
    ]
    assert len(looks) == len(runs) == 16 and len(set(looks)) == 15
    labels = labels_of(rows)
    assert len(set(labels)) == 15 and sum(label.startswith("Pooling of tokens: cls of shapes") for label in labels) == 1


def test_several_environments_are_owned_up_to():
    def caption(*records):
        return " ".join(text.get_text() for text in transfer_figure(transfer_rows(records, {})).texts).replace(
            "\n", " "
        )

    assert "environments" not in caption(*methods())
    assert "Computed in several environments" in caption(*methods(), *methods(precision="bf16"))


def test_four_data_sets_have_their_axes_named_at_the_outside():
    records = [one for dataset in ("digits", "shapes", "a", "b") for one in methods(dataset=dataset)]
    axes = transfer_figure(transfer_rows(records, {})).axes
    assert [bool(one.get_xlabel()) for one in axes if one.get_visible()] == [False, True, True, True]
    assert [bool(one.get_ylabel()) for one in axes if one.get_visible()] == [True, False, False, True]


def test_it_is_written_where_nothing_else_is_recorded_and_goes_with_its_records(tmp_path, made_up):
    with pytest.raises(ValueError, match="no records"):
        write_plots(tmp_path)
    store = TransferStore(tmp_path)
    for record in methods():
        path = store.append(record)
    paths = write_plots(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["plots/transfer.svg", "plots/transfer.png"]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_plots(tmp_path)] == before
    path.unlink()
    RecordStore(tmp_path).append(made_up())
    write_plots(tmp_path)
    assert not any(path.exists() for path in paths) and transfer_figure([]) is None


def test_panels_are_called_by_their_data_s_names_and_by_the_hash_too_where_two_names_are_one():
    def titles(*datasets):
        records = [one for dataset in datasets for one in methods(dataset=dataset)]
        return [axes.get_title() for axes in transfer_figure(transfer_rows(records, {})).axes]

    assert titles("birds@c637c7f8", "torch/mnist") == ["birds", "MNIST"]
    assert titles("birds@c637c7f8", "birds@00000000") == ["birds@00000000", "birds@c637c7f8"]
