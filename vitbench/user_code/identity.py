"""Which code of a user's is it? A class or function is named by the hash of its source: `ConditionalPosition@1a2b3c4d`.

The hash is of the object and of what it reaches in its own files (`reached.py`).
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any, TypeGuard

from vitbench.user_code.reached import reached_source

USER_NAME = r"^[^\W\d]\w*@[0-9a-f]{8}$"
_DEFINE_IT = "define it with def or class at the top level of the study file, or of a file beside it"


def is_user_name(name: object) -> TypeGuard[str]:
    """Whether this names a user's code: a Python name, `@`, 8 hex digits."""
    return isinstance(name, str) and re.fullmatch(USER_NAME, name) is not None


def identify(code: object) -> str:
    """`NAME@` and 8 hex digits of the SHA-256 of what the class or function is, and reaches, in its own files.

    Comments, docstrings, layout and code that is not reached do not count. Other libraries count by the names that are
    imported from them: their versions are environment. Values that are read from elsewhere (files, environment variables) do
    not count. Raises ValueError for what has no source, and for what is no class or function.
    """
    return identity_of(code)[0]


def identity_of(code: Any) -> tuple[str, str]:
    """The name, as `identify` makes it, and for readers the source that it is made of."""
    what = _described(code)
    if isinstance(code, partial):
        raise ValueError(
            f"{what} has no source of its own; write a class with these values as attributes instead of partial"
        )
    if not isinstance(code, type | FunctionType):
        if inspect.isroutine(code):
            raise ValueError(f"{what} is not written in Python, so it has no source; wrap it in a function or class")
        raise ValueError(f"{what} is not a class or a function; give the class itself, without calling it")
    if code.__name__ == "<lambda>":
        raise ValueError(f"{what} is a lambda, whose source cannot be told; {_DEFINE_IT}")
    if "<locals>" in code.__qualname__:
        raise ValueError(f"{what} is made within a function, whose values are no part of its source; {_DEFINE_IT}")
    if code.__module__.partition(".")[0] == "torch":
        raise ValueError(f"{what} is torch's own; wrap it in a class or function of the study file")
    file = _source_file(code, what)
    try:
        reached = reached_source(file, code.__qualname__, package=sys.modules[code.__module__].__package__ or "")
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise ValueError(f"{what}: its source {str(file)!r} cannot be read ({error}); {_DEFINE_IT}") from error
    except LookupError as error:
        raise ValueError(f"{what} is not in its source {str(file)!r} under its name; {_DEFINE_IT}") from error
    digest = hashlib.sha256(reached.canonical.encode()).hexdigest()[:8]
    return f"{code.__name__}@{digest}", reached.text


def _described(code: object) -> str:
    name = getattr(code, "__qualname__", None) or repr(code)
    return f"code {name if len(name) <= 80 else f'{name[:79]}…'}"


def _source_file(code: type | FunctionType, what: str) -> Path:
    """The Python file of the module that defines it. Raises ValueError without one."""
    if code.__module__ == "__main__":
        raise ValueError(
            f"{what} is of the script or notebook that runs (__main__), which workers cannot import; put it into a study file "
            "and run that with `vitbench run FILE.py`"
        )
    module = sys.modules.get(code.__module__)
    file = getattr(module, "__file__", None)
    if module is None or not file or not Path(file).is_file():
        raise ValueError(
            f"{what} has no source file (module {code.__module__!r}): it was typed or made by exec; {_DEFINE_IT}"
        )
    if Path(file).suffix != ".py":
        raise ValueError(f"{what} is not written in Python, so it has no source; wrap it in a function or class")
    last: Any = module
    for part in code.__qualname__.split("."):
        last = getattr(last, part, None)
    if last is not code and not (callable(last) and inspect.unwrap(last) is code):
        raise ValueError(
            f"{what}: its file gives that name to something else further down; give each class and function its own name"
        )
    return Path(file)
