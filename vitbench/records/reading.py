"""How does a line become a record? What many lines have in common is checked once, and is one object in all of their records.

Of 200,000 lines, designs, configurations and environments are a few hundred texts over and over. A line in the form that
vitbench writes is taken apart at these. Any other line, and any in which something is wrong, is read whole by the schema.
"""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from vitbench.config import RunConfig, canonical_json
from vitbench.records.curve import Curve
from vitbench.records.design import Design
from vitbench.records.environment import Environment
from vitbench.records.lines import DECODER, parse
from vitbench.records.schema import SCHEMA, Record

NAMES = frozenset(field.alias or name for name, field in Record.model_fields.items())
_UNTIL = {"design": ',"seed":', "config": ',"outcome":', "curve": "]", "environment": ',"taken_from":'}
"""Parts in their order, and what they end before, or with, in lines that vitbench wrote."""
_SHARED: dict[str, type[BaseModel]] = {"design": Design, "environment": Environment}
_START = re.compile(r'(\{(?:"digest":"[0-9a-f]{64}",)?)"schema":')
_SEED = re.compile(r'\},"seed":(0|[1-9][0-9]{0,8}),')
_OF_FEW = ("study", "arm", "budget", "variant", "taken_from")
"""Fields with the same text in many lines."""
_MARK = 1_999_999_999
"""A seed that stands for any."""
_HOLE = -90_817_263_544_536_271_809
"""Stands where a part was taken out; no field of a record may hold it."""
MOST_SHARED = 20_000
"""Texts that are kept at a time; a run that goes on from another has one of its own."""


@dataclass(frozen=True)
class _AnySeed:
    """A configuration at the seed `_MARK`, and its canonical JSON as it was written, cut where seeds stand."""

    config: RunConfig
    pieces: list[str]

    def at(self, seed: str) -> tuple[RunConfig, str]:
        """The configuration at a seed, and the run_id that follows from it as it was written."""
        canonical = f'"seed":{seed}'.join(self.pieces)
        return self.config.at_seed(int(seed)), hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass
class RecordReader:
    """Reads lines of one study's file. It keeps what they share, so one is made for each reading of a file."""

    study: str
    _parts: dict[tuple[str, str], Any] = field(default_factory=dict)
    _configs: dict[str, _AnySeed] = field(default_factory=dict)
    _field_sets: dict[frozenset[str], set[str]] = field(default_factory=dict)

    def __call__(self, line: bytes) -> Record:
        """Raises ValueError for a line that is no record of the study, or contradicts itself."""
        record = self._in_parts(line) or Record.model_validate(parse(line, schema=SCHEMA, names=NAMES))
        if record.study != self.study:
            raise ValueError(f"study {record.study!r} is not that of its file, {self.study!r}")
        if objection := record.objection():
            raise ValueError(objection)
        return record

    def _in_parts(self, line: bytes) -> Record | None:
        """None for a line of another form, or in which something may be wrong."""
        try:
            fields = self._fields(line.decode())
            fields["config"], run_id = fields["config"]
            if fields["schema"] != SCHEMA or run_id != fields["run_id"] or "digest" in fields:
                return None
            record = Record.model_validate(fields)
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        self._with_shared_field_set(record)
        self._with_shared_field_set(record.cost)
        return record

    def _fields(self, text: str) -> dict[str, Any]:
        """The fields of a line, the parts among them as models. Raises an error for another form."""
        head = _START.match(text)
        if head is None or "\\u" in text:
            raise ValueError("not as vitbench writes it")
        index = head.end(1)
        pieces, parts = [], {}
        for name, until in _UNTIL.items():
            start = text.index(f'"{name}":', index) + len(name) + 3
            end = text.index(until, start) + (until == "]")
            parts[name] = self._part(name, text[start:end])
            pieces.append(text[index:start])
            index = end
        fields: dict[str, Any] = DECODER.decode("{" + str(_HOLE).join([*pieces, text[index:]]))
        if any(
            fields[name] != _HOLE for name in parts
        ):  # what was found under that name stood elsewhere, or is there again
            raise ValueError("not as vitbench writes it")
        fields |= parts | {name: sys.intern(fields[name]) for name in _OF_FEW}
        fields["metrics"] = {sys.intern(name): number for name, number in fields["metrics"].items()}
        return fields

    def _part(self, name: str, text: str) -> object:
        """The model of a part, from its whole text; a configuration's with its run_id."""
        if name == "curve":
            return Curve.of_json(text)
        if name == "config":
            return self._config(text)
        part = self._parts.get((name, text))
        if part is None:
            part = _SHARED[name].model_validate(DECODER.decode(text))
            _keep(self._parts, (name, text), part)
        return part

    def _config(self, text: str) -> tuple[RunConfig, str]:
        match = _SEED.search(text)
        if match is None:
            raise ValueError("no seed after its recipe")
        key = text.replace(f'"seed":{match[1]},', '"seed":?,')
        any_seed = self._configs.get(key)
        if any_seed is None:
            any_seed = _any_seed(key, DECODER.decode(text))
            _keep(self._configs, key, any_seed)
        config, run_id = any_seed.at(match[1])
        object.__setattr__(config, "__pydantic_fields_set__", any_seed.config.model_fields_set)
        return config, run_id

    def _with_shared_field_set(self, model: BaseModel) -> None:
        """Which fields were given is the same in all lines, and as large as all numbers of a record."""
        fields_set = model.model_fields_set
        shared = self._field_sets.setdefault(frozenset(fields_set), fields_set)
        object.__setattr__(model, "__pydantic_fields_set__", shared)


def _any_seed(key: str, values: Any) -> _AnySeed:
    """Of the JSON of a configuration with `?` for its seed, and its values. Raises ValueError where more changes with it."""
    mark = f'"seed":{_MARK}'
    marked = DECODER.decode(key.replace('"seed":?', mark))
    pieces = canonical_json(marked).split(mark)
    if marked != _at_the_mark(values) or len(pieces) != 1 + _seeds_in(values):
        raise ValueError("more than its seeds changes with the seed")
    return _AnySeed(RunConfig.model_validate(marked), pieces)


def _at_the_mark(config: dict[str, Any]) -> dict[str, Any]:
    before = config.get("pretraining")
    return {**config, "seed": _MARK, **({"pretraining": _at_the_mark(before)} if before else {})}


def _seeds_in(config: dict[str, Any]) -> int:
    """Its own, and that of each run that it went on from."""
    before = config.get("pretraining")
    return 1 + (_seeds_in(before) if before else 0)


def _keep(texts: dict[Any, Any], key: object, value: object) -> None:
    if len(texts) >= MOST_SHARED:
        texts.clear()
    texts[key] = value
