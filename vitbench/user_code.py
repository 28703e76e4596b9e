"""Which code of a user's is it? A class or function is named by the hash of its source: `ConditionalPosition@1a2b3c4d`.

The hash is of the object and of what it reaches in its own files (`reached_source`). A registry of this process knows the
objects by these names; it is filled when a study file is loaded. Imports no torch.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any, TypeGuard

from vitbench import user_files
from vitbench.process_state import taken_back
from vitbench.reached_source import Reached, reached_source

ROLES = ("stem", "position", "attention", "mlp", "norm", "activation", "pool", "head")
"""What a user's part can stand for in a Vision Transformer: fields of `ViTConfig`."""
USER_NAME = r"^[^\W\d]\w*@[0-9a-f]{8}$"
_DEFINE_IT = "define it with def or class at the top level of the study file, or of a file beside it"
_REGISTRY: dict[str, Any] = {}
_SOURCES: dict[str, str] = {}


def is_user_name(name: object) -> TypeGuard[str]:
    """Whether this names a user's code: a Python name, `@`, 8 hex digits."""
    return isinstance(name, str) and re.fullmatch(USER_NAME, name) is not None


def identify(code: object) -> str:
    """`NAME@` and 8 hex digits of the SHA-256 of what the class or function is, and reaches, in its own files.

    Comments, docstrings, layout and code that is not reached do not count. Other libraries count by the names that are
    imported from them: their versions are environment. Values that are read from elsewhere (files, environment variables) do
    not count. Raises ValueError for what has no source, and for what is no class or function.
    """
    return _identified(code)[0]


def register(code: object, role: str) -> str:
    """The name by which `lookup` gives this object from now on, in this process: that of `identify`.

    `code` is a class or function, or text, `package.module:Name`, which is imported. `role` is what it is given as: a field of
    `ViTConfig`, `module`, or what else a message shall say. Raises ValueError for what cannot have that role.
    """
    code = _imported(code) if isinstance(code, str) else code
    name, reached = _identified(code)
    _check_role(code, role)
    _REGISTRY[name] = code
    _SOURCES[name] = reached.text
    return name


def is_loaded(name: str) -> bool:
    """Whether this process knows the object of that name, or has loaded a user's file that has it."""
    return name in _REGISTRY or _found(name)


def _found(name: str) -> bool:
    """Whether a file that was loaded has it at its top level; then it is registered."""
    bare = name.partition("@")[0]
    for module in user_files.modules():
        try:
            if identify(vars(module).get(bare)) == name:
                register(vars(module)[bare], "")
                return True
        except ValueError:  # something else of that name
            continue
    return False


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
    """What `name` is and reaches, in the order of its files, comments included. Raises ValueError as `lookup` does."""
    lookup(name)
    return _SOURCES[name]


def _identified(code: Any) -> tuple[str, Reached]:
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
    return f"{code.__name__}@{digest}", reached


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
    found: Any = module
    for part in code.__qualname__.split("."):
        found = getattr(found, part, None)
    wrapped = inspect.unwrap(found) if callable(found) else found
    if found is not code and wrapped is not code:
        raise ValueError(
            f"{what} is not what its file calls so at last; give each class and function a name of its own"
        )
    return Path(file)


def _imported(path: str) -> Any:
    """The object at `package.module:Name`. Raises ValueError where there is none."""
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise ValueError(f"code {path!r} is not package.module:Name; give a class, or such a path")
    try:
        with taken_back():
            found: Any = importlib.import_module(module_name)
    except Exception as error:  # whatever the package raises when it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"code {path!r}: {module_name} cannot be imported ({reason}); install it, or mend the path"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"code {path!r}: {module_name} has no {name}; mend the path")
        found = getattr(found, part)
    return found


_MODULE = "torch.nn.modules.module.Module"


def is_torch_module(code: object) -> bool:
    """Whether this is a class derived from torch's nn.Module; does not import torch."""
    return isinstance(code, type) and any(f"{base.__module__}.{base.__qualname__}" == _MODULE for base in code.__mro__)


_MODULE_ARGUMENTS = ("image_size", "in_channels", "num_classes")


def _check_role(code: Any, role: str) -> None:
    """Raises ValueError for a class that is no nn.Module, or whose constructor does not take what it will be given."""
    if role not in (*ROLES, "module"):
        return
    is_class = isinstance(code, type)
    if is_class and not is_torch_module(code):
        raise ValueError(f"{role} {code.__name__}: the class is not derived from torch.nn.Module; derive it")
    if not is_class and role not in ("activation", "module"):
        raise ValueError(f"{role} {code.__name__} is a function; give a class derived from torch.nn.Module")
    try:
        signature = inspect.signature(code)
    except ValueError:  # of classes written in C
        return
    try:
        if role == "module":
            signature.bind_partial(**dict.fromkeys(_MODULE_ARGUMENTS))
        else:
            signature.bind(None)
    except TypeError as error:
        takes = (
            f"the arguments {', '.join(_MODULE_ARGUMENTS)}, by these names, and its options"
            if role == "module"
            else "one argument: " + ("the ViTConfig" if is_class else "a tensor")
        )
        shown = f"{code.__name__}{signature}"
        raise ValueError(f"{role} {shown[:200]}: {error}; it must take {takes}") from error


@dataclass(frozen=True)
class Carried:
    """Where another process on this machine finds a user's code that this one has loaded."""

    name: str
    module: str
    file: str
    qualname: str

    def load(self) -> None:
        """Has this process know it. Raises ValueError where its file is another by now, and what its file raises."""
        if is_loaded(self.name):
            return
        is_file = self.module == user_files.module_name(Path(self.file)) or "." not in self.module
        code: Any = user_files.load(Path(self.file)) if is_file else importlib.import_module(self.module)
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
