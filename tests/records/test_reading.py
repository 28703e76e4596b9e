"""Is a line that is taken apart read as the schema reads it whole, and is what many lines share checked once?"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.made_up_records import make_record
from vitbench.config import RunConfig, TimmConfig, TrainConfig, ViTConfig, canonical_json, run_id
from vitbench.records import Curve, Environment, EpochPoint, Record
from vitbench.records.lines import parse, with_digest
from vitbench.records.reading import NAMES, RecordReader

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "records"


def whole(line: bytes) -> Record:
    """As the schema alone reads it."""
    return Record.model_validate(parse(line, schema=1, names=NAMES))


def line_of(record: Record, **fields) -> bytes:
    return with_digest(json.dumps(record.to_dict() | fields, separators=(",", ":")).encode())


def some_records(number: int, **fields) -> list[Record]:
    return [
        make_record(arm, seed=seed, test=0.5, curve=[0.1, 0.5], model={"num_registers": registers}, **fields)
        for seed in range(number)
        for registers, arm in enumerate(("none", "one", "two"))
    ]


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*.jsonl")), ids=lambda path: path.stem)
def test_the_reference_is_read_as_the_schema_reads_it(path):
    reader = RecordReader(path.stem)
    for line in path.read_bytes().splitlines()[::7]:
        record, expected = reader(line), whole(line)
        assert record == expected and record.to_json() == expected.to_json()
        assert record.model_dump() == expected.model_dump() and record.model_fields_set == expected.model_fields_set
        assert record.identity == run_id(expected.config.model_dump(mode="json"))


def test_a_line_with_any_change_is_read_or_refused_as_the_schema_does():
    reader, lines = RecordReader("pool"), [line_of(record) for record in some_records(3)]
    for line in lines:
        reader(line)  # so that what they share is known
    generator, others = random.Random(0), 0
    for _ in range(1500):
        line = bytearray(generator.choice(lines))
        place = generator.randrange(len(line))
        change = generator.choice(("flip", "cut", "double", "digit"))
        if change == "flip":
            line[place] ^= 1 << generator.randrange(7)
        elif change == "cut":
            del line[place : place + generator.randrange(1, 9)]
        elif change == "double":
            line[place:place] = line[place : place + generator.randrange(1, 40)]
        else:
            digits = [index for index, byte in enumerate(line) if byte in b"0123456789"]
            line[generator.choice(digits)] = generator.choice(b"0123456789")
        try:
            expected = whole(bytes(line))
            refused = bool(expected.objection()) or expected.study != "pool"
        except (ValueError, RecursionError):
            refused = True
        if refused:
            with pytest.raises((ValueError, RecursionError)):
                reader(bytes(line))
        else:
            record, others = reader(bytes(line)), others + 1
            assert record == expected and record.to_json() == expected.to_json()
    assert others > 100  # changes that nothing but a digest can see: names, numbers


@pytest.mark.parametrize(
    "fields",
    [
        {"a_field_of_later": {"config": 1, "design": [2]}},
        {"reason": 'a "quote", a \\ and ,"design": here', "outcome": "failed", "metrics": {}},
        {"reason": "line\nbreak, tab\t, \x1b and ü 猫", "outcome": "failed", "metrics": {}},
        {"curve": [{"epoch": 1, "train_loss": None, "of_later": "text"}]},
        {"curve": [{"epoch": 1, "train_loss": 2}, {"epoch": 2.0, "train_loss": 1e-3, "fraction": 0.5}]},
        {"curve": []},
        {"environment": {**make_record().environment.model_dump(), "of_later": {"config": {}, "seed": 1}}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_lines_of_other_forms_are_read_as_the_schema_reads_them(fields):
    reader = RecordReader("pool")
    for record in some_records(2):
        line = line_of(record, **fields)
        assert reader(line) == whole(line) and reader(line).to_json() == whole(line).to_json()


def test_fields_in_another_order_or_twice_are_read_as_json_reads_them():
    record, reader = some_records(1)[0], RecordReader("pool")
    reader(line_of(record))
    fields = record.to_dict()
    turned = with_digest(json.dumps({"schema": 1, **dict(reversed(fields.items()))}).encode())
    assert reader(turned) == record
    text, design = line_of(record).decode(), json.dumps(fields["design"] | {"question": "another"})
    twice = (text[:-1] + f',"design":{design}}}').encode()
    assert reader(twice).design.question == whole(twice).design.question == "another"


def test_a_run_that_went_on_from_another_is_read_at_every_seed():
    first = RunConfig(model=ViTConfig(image_size=8, in_channels=1, patch_size=2))
    base = RunConfig(model=first.model, keep_head=True, pretraining=first)
    reader = RecordReader("pool")
    for seed in (0, 1, 12):
        config = base.at_seed(seed)
        record = make_record(seed=seed).model_copy(
            update={"config": config, "run_id": config.run_id, "learning_rate": config.train.learning_rate}
        )
        other = RunConfig.model_validate({**config.model_dump(), "pretraining": first.at_seed(seed + 1)})
        for each in (config, other):  # weights of another seed than its own
            line = line_of(record.model_copy(update={"config": each, "run_id": each.run_id}))
            assert reader(line) == whole(line) and reader(line).config.run_id == each.run_id


@pytest.mark.parametrize("number", [20, 40])
def test_designs_configurations_and_environments_are_checked_as_often_for_any_number_of_seeds(number, monkeypatch):
    lines = [line_of(record) for record in some_records(number)]
    checked: list[type] = []
    for kind in (RunConfig, Environment):
        original = kind.model_validate

        def counted(values, kind=kind, original=original):
            checked.append(kind)
            return original(values)

        monkeypatch.setattr(kind, "model_validate", counted)
    reader = RecordReader("pool")
    records = [reader(line) for line in lines]
    assert len(records) == 3 * number
    assert (checked.count(RunConfig), checked.count(Environment)) == (3, 1)
    assert len({id(record.design) for record in records}) == 1
    assert len({id(record.config.model) for record in records}) == 3
    assert len({id(record.model_fields_set) for record in records}) == 1


def test_a_curve_is_text_until_it_is_looked_at_and_equal_to_its_points():
    text = '[{"epoch":1,"train_loss":2.5,"val_loss":null,"val_top1":0.25,"fraction":1.0}]'
    curve, points = Curve.of_json(text), (EpochPoint(epoch=1, train_loss=2.5, val_top1=0.25),)
    assert curve == points == Curve(points) and curve[-1] == points[0] and len(curve) == 1 and curve
    assert not Curve.of_json("[]") and Curve.of_json("[]") == () == Curve()
    for damaged in (text.replace("0.25", "1.25"), text.replace("2.5", "-2.5"), text.replace(":1,", ":0,"), "[{}]"):
        with pytest.raises(ValueError):
            Curve.of_json(damaged)


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(),
        RunConfig(seed=3, evaluate=("shift",), train=TrainConfig(epochs=4.0, betas=(0.9, 0.95))),
        RunConfig(model=TimmConfig(timm="resnet18", image_size=32, in_channels=3, num_classes=10)),
        RunConfig(init="timm:vit_ü@1a2b3c4d", keep_head=True),
        RunConfig(keep_head=True, pretraining=RunConfig(seed=1)),
    ],
    ids=["default", "evaluate", "timm", "init", "pretraining"],
)
def test_the_canonical_json_of_a_run_is_that_of_its_values_and_no_copy_keeps_it(config):
    assert config.canonical_json() == canonical_json(config.model_dump(mode="json"))
    assert config.run_id == run_id(config.model_dump(mode="json"))
    other = config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": 0.5})})
    assert other.run_id == run_id(other.model_dump(mode="json")) != config.run_id
    assert other.canonical_json() == canonical_json(other.model_dump(mode="json"))
    assert config.model_copy() == config and config.at_seed(9).run_id == run_id(
        config.at_seed(9).model_dump(mode="json")
    )
