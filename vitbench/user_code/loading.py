"""How is a user's Python file loaded, so that what is hashed is what runs?

Python may run an older compiled copy of a file that was edited within the second, and `inspect` shows a file as it is later.
Here, each file's bytes are read once: those that run are those whose text a name by source is made of. A file that has
changed since is loaded again, and what lies beside it too.
"""

from __future__ import annotations

import hashlib
import importlib
import linecache
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import decode_source, module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from vitbench.process_state import taken_back
from vitbench.user_code.blame import users_code

_BYTES: dict[Path, bytes] = {}
"""Of every file that was hashed or run here, as it was then; by its path without links."""
_LOADED: dict[Path, ModuleType] = {}


def load_file(path: Path, kind: str) -> ModuleType:
    """A user's `study` or `data` file as a module, as `load` gives it.

    Raises ValueError, with the line to mend, where it cannot be imported.
    """
    _check_siblings(path, kind)
    with users_code(f"{kind} file {str(path)!r}", str(path.resolve())):
        return load(path)


def _check_siblings(path: Path, kind: str) -> None:
    """Raises ValueError where a sibling has the name of another file's sibling, which Python would import instead."""
    folder = path.resolve().parent
    imported = {module.__name__: str(module.__file__) for module in modules()}
    for sibling in sorted(folder.glob("*.py")):
        other = imported.get(sibling.stem)
        if other and Path(other).parent != folder:
            raise ValueError(
                f"{kind} file {str(path)!r}: its sibling {sibling.name} has the name of {other!r}, which another study "
                "imports; rename one"
            )


def text_of(path: Path) -> str:
    """The text of a Python file as this process runs it; of a file that it has not run, as it is now.

    Raises OSError, and what decoding raises.
    """
    return decode_source(_bytes(path))


def load(path: Path) -> ModuleType:
    """The file as a module, in `sys.modules` under a name of its own; the same one again, unless a file has changed.

    It can import modules that lie beside it, and so can its functions later. What it sets for the whole process, as torch's
    default dtype, is taken back. Raises whatever the file raises.
    """
    file = path.resolve()
    if _has_changed(file.parent):
        _forget(file.parent)
    if file in _LOADED:
        return _LOADED[file]
    spec = spec_from_file_location(module_name(file), file, loader=_Loader(module_name(file), str(file)))
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    with _first(file.parent), taken_back():
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[spec.name]
            raise
    _LOADED[file] = module
    return module


def module_name(file: Path) -> str:
    """What a file's module is called: by its name and, as several files may have that name, its place."""
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    return f"vitbench_study_{re.sub(r'[^A-Za-z0-9_]', '_', file.stem)}_{digest}"


def modules() -> Iterator[ModuleType]:
    """What was loaded here: users' files, and what lies beside them."""
    for module in list(sys.modules.values()):
        if isinstance(getattr(getattr(module, "__spec__", None), "loader", None), _Loader):
            yield module


def _forget(folder: Path) -> None:
    """Has the files of a folder read and run again by whoever asks for them next."""
    for module in modules():
        if folder in Path(str(module.__file__)).parents:
            sys.modules.pop(module.__name__, None)
    for path in [path for path in _BYTES if folder in path.parents]:
        del _BYTES[path]
        _LOADED.pop(path, None)


def _has_changed(folder: Path) -> bool:
    """Whether a file of the folder is not as this process has read it."""
    for path, content in _BYTES.items():
        if folder in path.parents:
            try:
                if path.read_bytes() != content:
                    return True
            except OSError:
                return True
    return False


def _bytes(path: Path) -> bytes:
    path = path.resolve()
    if path not in _BYTES:
        _BYTES[path] = path.read_bytes()
    return _BYTES[path]


class _Loader(SourceFileLoader):
    """Runs the bytes that `text_of` gives, and shows these in tracebacks, whatever the file holds by then."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 – the interface of loaders
        content = _bytes(Path(self.path))
        lines = decode_source(content).splitlines(keepends=True)
        linecache.cache[self.path] = (len(content), None, lines, self.path)  # None: not to be read again
        return self.source_to_code(content, self.path)


class _Finder:
    """Finds what lies in these folders, and in packages below them."""

    def __init__(self) -> None:
        self.folders: list[str] = []

    def find_spec(self, name: str, path: Sequence[str] | None = None, _: object = None) -> ModuleSpec | None:
        places = self.folders if path is None else [place for place in path if self._is_below(place)]
        spec = PathFinder.find_spec(name, places) if places else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            resolved = str(Path(spec.loader.path).resolve())
            spec.loader = _Loader(name, resolved)
            spec.origin = resolved
        return spec

    def _is_below(self, place: str) -> bool:
        return any(Path(folder) in (Path(place), *Path(place).parents) for folder in self.folders)


_BEFORE, _AFTER = _Finder(), _Finder()


@contextmanager
def _first(folder: Path) -> Iterator[None]:
    """Within the block, imports look into the folder first, as for a script; afterwards last, so that no file there hides a
    module that we have yet to import.
    """
    importlib.invalidate_caches()
    if _BEFORE not in sys.meta_path:
        sys.meta_path.insert(_place_of_path_finder(), _BEFORE)
    if _AFTER not in sys.meta_path:
        sys.meta_path.append(_AFTER)
    _BEFORE.folders = [str(folder)]
    try:
        yield
    finally:
        _BEFORE.folders = []
        if str(folder) not in _AFTER.folders:
            _AFTER.folders.append(str(folder))


def _place_of_path_finder() -> int:
    return sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else 0
