"""Which of a user's code does this process know? Registered by the name that its source gives it, or in a user's file."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitbench.process_state import taken_back
from vitbench.text import error_with_type
from vitbench.user_code import loading
from vitbench.user_code.blame import users_code
from vitbench.user_code.identity import identify, identity_of
from vitbench.user_code.roles import check_role

_REGISTRY: dict[str, Any] = {}
_SOURCES: dict[str, str] = {}


def register(code: object, role: str) -> str:
    """The name by which `lookup` gives this object from now on, in this process: that of `identify`.

    `code` is a class or function, or text, `package.module:Name`, which is imported. `role` is a field of `ViTConfig`,
    `module`, or what else a message shall say. Raises ValueError for what cannot have that role.
    """
    code = _imported(code) if isinstance(code, str) else code
    name, source = identity_of(code)
    check_role(code, role)
    _REGISTRY[name] = code
    _SOURCES[name] = source
    return name


def is_loaded(name: str) -> bool:
    """Whether this process knows the object of that name, or has loaded a user's file that has it."""
    if name not in _REGISTRY:
        for identity, code in _in_files(name):
            if identity == name:
                register(code, "")
    return name in _REGISTRY


def names_in_files(names: Iterable[str]) -> set[str]:
    """What the loaded files have now under the same Python names, by its source."""
    return {identity for name in names for identity, _ in _in_files(name)}


def _in_files(name: str) -> Iterator[tuple[str, object]]:
    """Objects at the top level of loaded files that have the Python name of `name`, each with the name by its source."""
    bare = name.partition("@")[0]
    for module in loading.modules():
        try:
            yield identify(vars(module).get(bare)), vars(module)[bare]
        except ValueError:  # something else of that name
            continue


def lookup(name: str) -> Any:
    """The object of that name. Raises ValueError where this process has not loaded it."""
    if not is_loaded(name):
        bare = name.partition("@")[0]
        others = [other for other in _REGISTRY if other.partition("@")[0] == bare]
        if others:
            raise ValueError(
                f"code {name!r} is not what the study file has now, {others[-1]!r}: it was edited; start again from the study "
                "file, or bring the old code back"
            )
        raise ValueError(
            f"code {name!r} is a user's, and this process has not loaded it; give the file that has it, with --study"
        )
    return _REGISTRY[name]


def source_of(name: str) -> str:
    """The code of that name and all that it reaches, in the order of its files, comments included.

    Raises ValueError as `lookup` does.
    """
    lookup(name)
    return _SOURCES[name]


def _imported(path: str) -> Any:
    """The object at `package.module:Name`. Raises ValueError where there is none."""
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ValueError(f"code {path!r} is not package.module:Name; give a class, or such a path")
    try:
        with redirect_stdout(sys.stderr), taken_back():
            code: Any = importlib.import_module(module_name)
    except Exception as error:  # whatever the package raises when it is imported
        raise ValueError(
            f"code {path!r}: {module_name} cannot be imported ({error_with_type(error)}); install it, or mend the path"
        ) from error
    for part in name.split("."):
        if not hasattr(code, part):
            raise ValueError(f"code {path!r}: {module_name} has no {name}; mend the path")
        code = getattr(code, part)
    return code


@dataclass(frozen=True)
class Carried:
    """Where another process on this machine finds a user's code that this one has loaded."""

    name: str
    module: str
    file: str
    qualname: str

    def load(self) -> None:
        """Has this process know it. Raises ValueError where its file is another by now, or cannot be loaded."""
        if is_loaded(self.name):
            return
        is_file = self.module == loading.module_name(Path(self.file)) or "." not in self.module
        with users_code(f"code {self.name!r}", self.file):
            code: Any = loading.load(Path(self.file)) if is_file else importlib.import_module(self.module)
        for part in self.qualname.split("."):
            code = getattr(code, part)
        if register(code, "") != self.name:
            raise ValueError(f"code {self.name!r} was edited while it was measured; start again")


def carried(names: Iterable[str]) -> tuple[Carried, ...]:
    """Where this process has these names from. Raises ValueError as `lookup` does."""
    codes = {name: lookup(name) for name in names}
    return tuple(
        Carried(name, code.__module__, str(sys.modules[code.__module__].__file__), code.__qualname__)
        for name, code in codes.items()
    )
