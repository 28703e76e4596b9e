"""Does a run that was interrupted anywhere end as the uninterrupted one, and does nothing but a whole state pass for one?"""

from __future__ import annotations

import math
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitbench.config import TrainConfig, ViTConfig
from vitbench.models import build_model
from vitbench.training import Checkpoint, TrainResult, train
from vitbench.training import checkpoint as module
from vitbench.training.loop import _Clock

EVERYTHING_RANDOM = ViTConfig(
    image_size=8,
    in_channels=1,
    patch_size=4,
    width=16,
    depth=2,
    num_heads=2,
    num_classes=3,
    stem="conv",  # has BatchNorm
    stem_width=8,
    dropout=0.1,
    attention_dropout=0.1,
    drop_path=0.2,
)
STEPS_PER_EPOCH = 3
RECIPE = TrainConfig(epochs=2.4, learning_rate=0.01, ema_decay=0.8, clip_norm=0.5)
NUM_STEPS = 7


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """States are written when a test asks for it, however slow the machine; one thread, as runs have."""
    monkeypatch.setattr(module, "SECONDS_BETWEEN", float("inf"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Loop:
    """One part of a run in this process: what it trains, what it evaluated, and what ends it."""

    def __init__(
        self,
        path: Path | None,
        config: TrainConfig = RECIPE,
        *,
        interrupt_in: int | None = None,
        minutes: float = math.inf,
        micro_batch: int | None = None,
    ) -> None:
        self.model = build_model(EVERYTHING_RANDOM)
        self.config = config
        self.interrupt_in = interrupt_in
        self.evaluated: list[tuple[int, list[Tensor]]] = []
        self.steps: list[int] = []
        self.micro_batch = micro_batch
        self.checkpoint = Checkpoint(path, {"torch": "2"}, minutes=minutes)
        self.checkpoint.more = lambda: {"evaluated": self.evaluated}

    def batches(self, epoch: int, first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        for step in range(epoch * STEPS_PER_EPOCH + first, epoch * STEPS_PER_EPOCH + last):
            self.steps.append(step)
            if step == self.interrupt_in:
                signal.raise_signal(signal.SIGINT)
            generator = torch.Generator().manual_seed(step)
            yield torch.randn(4, 1, 8, 8, generator=generator), torch.randint(3, (4,), generator=generator)

    def evaluate(self, epoch: int) -> None:
        self.evaluated.append((epoch, [t.clone() for t in self.model.state_dict().values()]))

    def run(self) -> TrainResult:
        saved, why_not = self.checkpoint.read()
        assert not why_not
        self.evaluated = saved["evaluated"] if saved else []
        return train(
            self.model,
            self.config,
            seed=5,
            steps_per_epoch=STEPS_PER_EPOCH,
            batches=self.batches,
            after_epoch=self.evaluate,
            autocast=nullcontext,
            synchronize=lambda: None,
            micro_batch=self.micro_batch,
            checkpoint=self.checkpoint,
            resume=saved and saved["training"],
        )


def outcome(loop: Loop, result: TrainResult) -> list[Any]:
    """All that must be equal, bit for bit."""
    tensors = [*loop.model.state_dict().values(), *(t for _, tensors in loop.evaluated for t in tensors)]
    numbers = [result.train_losses, result.diverged, [epoch for epoch, _ in loop.evaluated]]
    return [*numbers, [(str(t.dtype), tuple(t.shape), t.numpy().tobytes()) for t in tensors]]


def uninterrupted(config: TrainConfig) -> list[Any]:
    loop = Loop(None, config)
    return outcome(loop, loop.run())


@pytest.mark.parametrize("step", range(NUM_STEPS))
def test_a_run_interrupted_in_any_step_ends_with_the_bits_of_the_uninterrupted_one(tmp_path, step):
    path = tmp_path / "run.pt"
    first = Loop(path, interrupt_in=step)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert first.steps == list(range(step + 1))  # the step is finished, and no other is begun
    second = Loop(path)
    assert outcome(second, second.run()) == uninterrupted(RECIPE)
    assert second.steps == list(range(step + 1, NUM_STEPS))


def test_a_run_interrupted_in_every_step_ends_with_the_bits_of_the_uninterrupted_one(tmp_path):
    for step in range(NUM_STEPS):
        with pytest.raises(KeyboardInterrupt):
            Loop(tmp_path / "run.pt", interrupt_in=step).run()
    last = Loop(tmp_path / "run.pt")
    assert outcome(last, last.run()) == uninterrupted(RECIPE) and last.steps == []


OPTIMIZERS = ["adamw", "muon", "nadamuon", "sgd", "lion", "lamb", "adafactor", "nadamw", "rmsproptf", "adopt"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_go_on_as_they_were(tmp_path, optimizer):
    config = RECIPE.replace(optimizer=optimizer, schedule="linear")
    with pytest.raises(KeyboardInterrupt):
        Loop(tmp_path / "run.pt", config, interrupt_in=3).run()
    second = Loop(tmp_path / "run.pt", config)
    assert outcome(second, second.run()) == uninterrupted(config)


def test_what_an_end_while_it_evaluates_leaves_behind_is_evaluated_again(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(module, "LARGEST_SHARE", float("inf"))

    def killed(epoch: int) -> None:
        if epoch == 1:
            raise SystemExit
        Loop.evaluate(first, epoch)

    first = Loop(tmp_path / "run.pt")
    first.evaluate = killed
    with pytest.raises(SystemExit):
        first.run()
    second = Loop(tmp_path / "run.pt")
    assert outcome(second, second.run()) == uninterrupted(RECIPE)
    assert second.steps == [6]


def test_a_loss_that_is_not_finite_ends_a_resumed_run_as_it_ends_the_whole_one(tmp_path):
    config = RECIPE.replace(learning_rate=1e6, clip_norm=None, warmup_fraction=0.0)
    whole = uninterrupted(config)
    assert "training loss is" in whole[1] and len(whole[0]) == 1
    with pytest.raises(KeyboardInterrupt):
        Loop(tmp_path / "run.pt", config, interrupt_in=2).run()
    second = Loop(tmp_path / "run.pt", config)
    result = second.run()
    assert result.diverged == whole[1] and len(result.train_losses) == 1 and second.steps == []


def test_seconds_and_images_of_the_parts_are_added_up_and_the_first_steps_of_each_left_out_of_the_rate(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("vitbench.training.loop.time.perf_counter", lambda: now[0])

    def part(state: list[float], *, seconds: float, images: int) -> _Clock:
        clock = _Clock(lambda: None)
        clock.restore(state)
        clock.start()
        now[0], clock.images = now[0] + 10, clock.images + 8  # two slow steps
        clock.forget()
        now[0], clock.images = now[0] + seconds, clock.images + images
        clock.stop()
        now[0] += 500  # writing, and whatever comes between two parts
        return clock

    first = part([0.0, 0.0, 0], seconds=20, images=40)
    assert first.total_seconds == 30 and first.images_per_second == 2
    second = part(first.state(), seconds=30, images=120)
    assert second.total_seconds == 70 and second.images_per_second == (40 + 120) / (20 + 30)


# The file


def written(path: Path, **more: Any) -> Checkpoint:
    checkpoint = Checkpoint(path, {"torch": "2"})
    checkpoint.more = lambda: more
    checkpoint.write({"step": 3, "weights": torch.arange(5.0)})
    return checkpoint


def test_what_was_written_is_read_and_one_file_is_kept(tmp_path):
    path = tmp_path / "study" / "run.pt"
    written(path, note=[1, (2, 0.1 + 0.2), None])
    checkpoint = written(path, note=[1, (2, 0.1 + 0.2), None])
    content, why_not = checkpoint.read()
    assert why_not == "" and content["note"] == [1, (2, 0.1 + 0.2), None]
    assert content["training"]["step"] == 3 and torch.equal(content["training"]["weights"], torch.arange(5.0))
    assert list(path.parent.iterdir()) == [path]


def test_nothing_is_read_where_nothing_was_written(tmp_path):
    assert Checkpoint(tmp_path / "run.pt").read() == (None, "") == Checkpoint(None).read()


def test_what_a_writer_that_was_killed_left_half_written_is_removed_and_no_other_file(tmp_path):
    checkpoint = written(tmp_path / "run.pt")
    (tmp_path / ".run.pt.4711-0a1b2c3d.tmp").write_bytes(b"half a che")
    (tmp_path / "other.pt").write_bytes(b"another run's")
    assert checkpoint.read()[0]["training"]["step"] == 3
    assert {path.name for path in tmp_path.iterdir()} == {"run.pt", "other.pt"}


def damaged(data: bytes) -> Iterator[bytes]:
    yield from (data[:end] for end in (0, 1, 31, 32, 33, len(data) // 2, len(data) - 1))
    for place in (0, len(data) // 3, len(data) // 2, len(data) - 1):
        yield data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    yield data + b"\0"


def test_a_file_that_is_torn_or_damaged_anywhere_is_told_in_a_line(tmp_path):
    path = tmp_path / "run.pt"
    written(path)
    for data in damaged(path.read_bytes()):
        path.write_bytes(data)
        content, why_not = Checkpoint(path, {"torch": "2"}).read()
        assert content is None and why_not == f"checkpoint {str(path)!r} is torn or damaged"


class Foreign:
    """What torch.load refuses to make of a file: anything but tensors and plain values."""


def test_a_file_of_another_format_is_told_in_a_line(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    for content in ({"format": 0, "made_by": {}}, {"training": {}}, [1, 2], Foreign()):
        monkeypatch.setattr(module, "FORMAT", 1)
        module._write(path, content)
        assert Checkpoint(path).read() == (None, f"checkpoint {str(path)!r} is of another version of vitbench")
    module._write(path, {"format": 1, "made_by": {}})
    assert Checkpoint(path).read()[1] == ""


def test_a_file_that_is_no_archive_but_has_its_digest_is_told_in_a_line(tmp_path):
    payload = pickle.dumps({"format": 1}, protocol=2)[:-3]
    (tmp_path / "run.pt").write_bytes(payload + module.hashlib.sha256(payload).digest())
    assert "another version" in Checkpoint(tmp_path / "run.pt").read()[1]


@pytest.mark.parametrize("here", ["2.1", ""])
def test_a_state_that_something_else_made_is_refused_with_what_differs(tmp_path, here):
    written(tmp_path / "run.pt")
    content, why_not = Checkpoint(tmp_path / "run.pt", {"torch": here}).read()
    assert content is None and why_not.endswith(f"was made with torch '2', and here it is {here!r}")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["os.fsync", "pathlib.Path.replace"])
def test_an_end_in_the_middle_of_writing_leaves_the_state_before(tmp_path, monkeypatch, capfd, error, where):
    path = tmp_path / "run.pt"
    checkpoint = written(path)

    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(where, fails)
        for step in (4, 5):
            with nullcontext() if isinstance(error, OSError) else pytest.raises(KeyboardInterrupt):
                checkpoint.write({"step": step})
    content, _ = checkpoint.read()
    assert content["training"]["step"] == 3 and list(tmp_path.iterdir()) == [path]
    said = capfd.readouterr().err
    assert said.count("\n") == isinstance(error, OSError) == ("No space left on device" in said)
    checkpoint.write({"step": 6})
    assert checkpoint.read()[0]["training"]["step"] == 6


def test_a_state_is_due_after_five_seconds_and_when_writing_takes_a_hundredth_of_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN", 5.0)
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    checkpoint = Checkpoint(tmp_path / "run.pt")

    def slow(*_: object) -> None:
        now[0] += 0.2

    monkeypatch.setattr(module, "_write", slow)
    due = []
    for seconds in (4.9, 0.2):
        now[0] += seconds
        due.append(checkpoint.is_due())
    checkpoint.write({})
    for seconds in (6.0, 13.9, 0.2):  # 0.2 s of writing are worth 20 s of training
        now[0] += seconds
        due.append(checkpoint.is_due())
    assert due == [False, True, False, False, True]
    assert not Checkpoint(None).is_due()


def test_a_state_is_due_within_an_epoch_once_the_minutes_are_over_however_long_writing_takes(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    checkpoint = Checkpoint(tmp_path / "run.pt", minutes=15)

    def slow(*_: object) -> None:
        now[0] += 60.0  # worth 6,000 s of training

    monkeypatch.setattr(module, "_write", slow)
    checkpoint.write({})
    seen = []
    for seconds in (599.0, 300.0, 2.0):  # 599, 899, 901
        now[0] += seconds
        seen.append((checkpoint.is_due(), checkpoint.is_due(ahead=600.0), checkpoint.is_overdue()))
    assert seen == [(False, True, False), (False, True, False), (True, True, True)]
    checkpoint.write({})
    assert not checkpoint.is_overdue() and not Checkpoint(None, minutes=15).is_overdue()


class Killed(BaseException):
    """What a test ends a run by, where nothing may be written any more."""


def kill_in(step: int, path: Path, *, minutes: float) -> None:
    """Ends a run as one that is killed in that step: with what the file holds then."""
    loop = Loop(path, minutes=minutes)

    def die(*_: object) -> None:
        if loop.steps[-1] == step:
            raise Killed

    loop.model.register_forward_pre_hook(die)
    with pytest.raises(Killed):
        loop.run()


@pytest.mark.parametrize("step", range(1, NUM_STEPS))
def test_a_run_that_is_killed_goes_on_from_the_middle_of_an_epoch_to_the_same_bits(tmp_path, step):
    kill_in(step, tmp_path / "run.pt", minutes=1e-9)
    second = Loop(tmp_path / "run.pt", minutes=1e-9)
    assert outcome(second, second.run()) == uninterrupted(RECIPE)
    assert second.steps == list(range(step, NUM_STEPS))  # nothing but the step in which it was killed is taken again


def test_a_run_that_ends_between_two_slices_takes_their_step_again_to_the_same_bits(tmp_path):
    first, slices = Loop(tmp_path / "run.pt", micro_batch=2), list[int]()

    def interrupt(*_: object) -> None:
        slices.append(first.steps[-1])
        if slices == [0, 0, 1, 1, 2]:
            signal.raise_signal(signal.SIGINT)

    first.model.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert slices == [0, 0, 1, 1, 2]  # whose BatchNorm has moved its statistics by then
    second, whole = Loop(tmp_path / "run.pt", micro_batch=2), Loop(None, micro_batch=2)
    assert outcome(second, second.run()) == outcome(whole, whole.run())
    assert second.steps == list(range(2, NUM_STEPS))


# The signals


def test_a_second_ctrl_c_ends_the_run_at_once(tmp_path):
    class Twice(Loop):
        def batches(self, epoch: int, first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
            for batch in super().batches(epoch, first, last):
                if self.steps[-1] == 2:
                    signal.raise_signal(signal.SIGINT)
                yield batch

    loop = Twice(tmp_path / "run.pt", interrupt_in=2)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert loop.steps == [0, 1, 2] and not (tmp_path / "run.pt").exists()


@pytest.fixture
def terminated() -> Iterator[list[int]]:
    """SIGTERM is noted in it, and ends nothing."""
    noted: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: noted.append(number))
    yield noted
    signal.signal(signal.SIGTERM, before)


def sending(*numbers: int) -> Callable[[nn.Module, Any], None]:
    return lambda *_: [signal.raise_signal(number) for number in numbers] and None


def test_sigterm_has_its_own_effect_once_the_state_is_written_however_often_it_is_sent(tmp_path, terminated):
    loop = Loop(tmp_path / "run.pt")
    seen = []

    def write(state: Any) -> None:
        seen.append((state["step"], list(terminated)))

    loop.checkpoint.write = write
    loop.model.register_forward_pre_hook(sending(signal.SIGTERM, signal.SIGTERM))  # in each of the seven steps
    loop.run()
    assert [step for step, _ in seen] == list(range(1, NUM_STEPS + 1))
    assert [len(noted) for _, noted in seen] == list(range(NUM_STEPS)) and len(terminated) == NUM_STEPS


def test_without_a_checkpoint_a_signal_has_its_effect_at_once(terminated):
    loop = Loop(None)
    noted = []
    loop.model.register_forward_pre_hook(sending(signal.SIGTERM))
    loop.model.register_forward_hook(lambda *_: noted.append(len(terminated)))
    loop.run()
    assert noted == list(range(1, NUM_STEPS + 1))


def test_what_is_ignored_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        loop = Loop(tmp_path / "run.pt", interrupt_in=1)
        loop.run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert loop.steps == list(range(NUM_STEPS)) and not (tmp_path / "run.pt").exists()


def test_handlers_are_as_before_after_a_run_and_a_thread_needs_none(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    loop = Loop(tmp_path / "run.pt")
    ended: list[list[Any]] = []
    thread = threading.Thread(target=lambda: ended.append(outcome(loop, loop.run())))
    thread.start()
    thread.join()
    with pytest.raises(KeyboardInterrupt):
        Loop(tmp_path / "run.pt", interrupt_in=1).run()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert ended == [uninterrupted(RECIPE)]
