"""Which policies of automatic augmentation are there, and is one written as timm reads it?

timm's parser passes over what it does not know (`rand-m9-mstdinf`, `rand-tnone`). Here that is refused: it would be a field
without effect. Imports no torch, and so not timm: a test compares the two parsers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_WHOLE, _NUMBER = r"\d{1,4}", r"\d{1,6}(\.\d{1,12})?"
_NOISE = {"mstd": _NUMBER}
_POLICY = dict.fromkeys(("original", "originalr", "v0", "v0r", "3a"), _NOISE)
_SECTIONS: dict[str, dict[str, str]] = {
    "rand": {"m": _WHOLE, "n": _WHOLE, "p": _NUMBER, "mmax": _WHOLE, "inc": "[01]", "t": "weights|3a|3aw"} | _NOISE,
    **_POLICY,
    "augmix": {"m": _WHOLE, "w": _WHOLE, "d": _WHOLE, "a": _NUMBER, "b": "[01]"} | _NOISE,
}
"""By the first section: the others, in any order, and how their values are written."""
_WEIGHTED = {"weights": 15, "3aw": 14}
"""Sets of operations that are drawn by weight, without replacement, and how many there are."""
_LARGEST = {"n": 100, "w": 100, "d": 100}


def checked_policy(text: str) -> str:
    """`text`, where it is a policy. Raises ValueError where it is none, in one line without field and value."""
    for objection in _objections(text):
        raise ValueError(objection)
    return text


def _objections(text: str) -> Iterator[str]:
    kind, *sections = text.split("-")
    if kind not in _SECTIONS:
        known = ", ".join(_SECTIONS)
        yield f"must begin with one of {known}; give 'rand-m9-mstd0.5-inc1', say"
        return
    allowed, values = _SECTIONS[kind], dict[str, str]()
    for section in sections:
        name = next((key for key, value in allowed.items() if re.fullmatch(f"{key}({value})", section, re.ASCII)), None)
        if name is None:
            yield f"{kind!r} has no section {section!r}; write sections as in {_EXAMPLE[kind]!r}"
            return
        if name in values:
            yield f"gives {name} twice; leave one out"
            return
        values[name] = section.removeprefix(name)
    for name, least in (("n", 1), ("w", 1), ("d", 1)):
        if name in values and not least <= int(values[name]) <= _LARGEST[name]:
            yield f"{name} must be from {least} to {_LARGEST[name]}"
    if float(values.get("p", 0)) > 1:
        yield "p is a probability; give 1 or less"
    if float(values.get("a", 1)) == 0:
        yield "a, of the Beta distribution, must be more than 0"
    available = _WEIGHTED.get(values.get("t", ""))
    if available is not None and int(values.get("n", 2)) > available:
        yield f"n is more than the {available} operations of {values['t']!r}; make it smaller"


_EXAMPLE = {
    "rand": "rand-m9-n2-p0.5-mstd0.5-mmax10-inc1-tweights",
    **{name: f"{name}-mstd0.5" for name in _POLICY},
    "augmix": "augmix-m3-w3-d2-a1-b0-mstd0.5",
}
