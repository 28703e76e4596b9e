"""What does a class or function reach in its own files, and in the files beside them? The statements, and a text to be hashed.

A name that a statement uses reaches the statements of the same file that bind or change it: functions, classes, assignments,
imports. An import of a file beside it, or of the same package, is followed; one of another library counts by its names.
"""

from __future__ import annotations

import ast
import builtins
import sysconfig
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from vitbench.user_code.loading import text_of
from vitbench.user_code.syntax import (
    Import,
    Uses,
    bases_that_watch,
    bound_names,
    called_anywhere,
    called_at_once,
    canonical,
    changed_within,
    imports_of,
    is_told_of_subclasses,
    uses_of,
)

MOST_STATEMENTS = 2_000
"""What reaches more is a library, not a part of a user's."""


@dataclass(frozen=True)
class Reached:
    """`canonical` is the same whatever comments, docstrings and layout are; `text` is for readers, comments included."""

    canonical: str
    text: str


def reached_source(file: Path, qualname: str, *, package: str) -> Reached:
    """What the class or function `qualname` of a file is and reaches. `package` is its module's `__package__`.

    Raises LookupError where the file does not define it, ValueError where it reaches more than `MOST_STATEMENTS` statements,
    and what reading and parsing raise.
    """
    file = file.resolve()
    walk = _Walk(_Files.around(file, package))
    name = qualname.partition(".")[0]
    first = walk.files.read(file)
    if not any(
        isinstance(unit.node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or not unit.imports
        for unit in first.binding(name)
    ):
        raise LookupError(name)
    walk.reach(file, name)
    walk.finish(qualname)
    return walk.result(qualname, file)


@dataclass(eq=False)
class _Unit:
    """A statement at the top level of a file, or one name of an import there."""

    node: ast.stmt
    binds: frozenset[str]
    imports: tuple[Import, ...] = ()
    """Where the statement is an import: the name that this unit is."""

    @property
    def canonical(self) -> str:
        return canonical(self.node) if not self.imports else str(self.imports[0])

    @cached_property
    def uses(self) -> Uses:
        return uses_of(self.node) if not self.imports else Uses()


@dataclass(eq=False)
class _File:
    path: Path
    lines: list[str]
    units: list[_Unit]

    def binding(self, name: str) -> list[_Unit]:
        return [unit for unit in self.units if name in unit.binds]

    @property
    def stars(self) -> list[_Unit]:
        return [unit for unit in self.units if unit.imports and unit.imports[0].name == "*"]


@dataclass
class _Files:
    """The files that belong to one another: of a folder, or of an installed package alone."""

    root: Path
    only: str
    """The one package or module of `root` that belongs; empty for all."""
    parsed: dict[Path, _File] = field(default_factory=dict)

    @classmethod
    def around(cls, file: Path, package: str) -> _Files:
        root = file.parent
        for _ in package.split(".") if package else ():
            root = root.parent
        library = {Path(path).resolve() for path in sysconfig.get_paths().values()}
        installed = root in library or root.name in ("site-packages", "dist-packages")
        return cls(root, (package.partition(".")[0] or file.stem) if installed else "")

    def read(self, path: Path) -> _File:
        if path not in self.parsed:
            text = text_of(path)
            self.parsed[path] = _File(path, text.splitlines(), _units(ast.parse(text, str(path))))
        return self.parsed[path]

    def find(self, module: str, level: int, importer: Path) -> Path | None:
        """The file of an imported module, where it is one of these files."""
        place = self._place(module, level, importer)
        candidates = () if place is None else (place / "__init__.py", place.parent / f"{place.name}.py")
        return next((path for path in candidates if path.is_file()), None)

    def has(self, module: str, level: int, importer: Path) -> bool:
        """Whether an imported module, or a package without `__init__.py`, is one of these files."""
        place = self._place(module, level, importer)
        return place is not None and (place.is_dir() or place.with_suffix(".py").is_file())

    def _place(self, module: str, level: int, importer: Path) -> Path | None:
        """Where the module would be, without `.py`; None for what belongs to another library."""
        folder = self.root
        if level:
            folder = importer.parent
            for _ in range(level - 1):
                folder = folder.parent
        elif self.only and module.partition(".")[0] != self.only:
            return None
        place = folder.joinpath(*module.split(".")) if module else folder
        return place if self.root in (place, *place.parents) else None


def _units(tree: ast.Module) -> list[_Unit]:
    units: list[_Unit] = []
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            units += [_Unit(node, frozenset({name.bound}), (name,)) for name in imports_of(node)]
        elif not _is_for_scripts(node):
            units.append(_Unit(node, bound_names(node)))
    return _with_effects(units)


def _with_effects(units: list[_Unit]) -> list[_Unit]:
    """What a function of the file changes, as a registry does, the statements that call it at once change: `@register`."""
    definitions = [unit for unit in units if isinstance(unit.node, ast.ClassDef | ast.FunctionDef)]
    imported = {name for unit in units if unit.imports for name in unit.binds}
    changed: dict[str, set[str]] = defaultdict(set)
    watching = set[str]()
    for unit in definitions:
        for name in unit.binds:
            changed[name] |= changed_within(unit.node) - imported  # torch.nn.init.zeros_(…) leaves torch as it is
            if is_told_of_subclasses(unit.node) or bases_that_watch(unit.node, watching):
                watching.add(name)
    if not any(changed.values()):
        return units
    calls = {
        name: (called_anywhere(unit.node) & changed.keys()) | bases_that_watch(unit.node, watching)
        for unit in definitions
        for name in unit.binds
    }
    return [
        replace(
            unit, binds=unit.binds | {name for called in _all_calls(unit, calls, watching) for name in changed[called]}
        )
        for unit in units
    ]


def _all_calls(unit: _Unit, calls: Mapping[str, set[str]], watching: set[str]) -> set[str]:
    """Functions and classes of the file that are called, by others too, as the statement is run."""
    if unit.imports:
        return set()
    todo, called = [*called_at_once(unit.node), *bases_that_watch(unit.node, watching)], set[str]()
    while todo:
        name = todo.pop()
        if name in calls and name not in called:
            called.add(name)
            todo += calls[name]
    return called


def _is_for_scripts(node: ast.stmt) -> bool:
    """`if __name__ == "__main__":`."""
    test = node.test if isinstance(node, ast.If) else None
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"


class _Walk:
    def __init__(self, files: _Files) -> None:
        self.files = files
        self.reached: dict[Path, set[_Unit]] = {}
        self._names: set[tuple[Path, str | None]] = set()
        self._todo: list[tuple[Path, _Unit]] = []
        self._count = 0

    def reach(self, path: Path, name: str | None) -> bool:
        """Whether the file binds the name; None is all that the file has."""
        if (path, name) in self._names:
            return True
        file = self.files.read(path)
        units = file.units if name is None else file.binding(name)
        if units:
            self._names.add((path, name))
        elif name is not None:
            return self._reach_star(file, name)
        for unit in units:
            if unit not in self.reached.setdefault(path, set()):
                self.reached[path].add(unit)
                self._todo.append((path, unit))
                self._count += 1
        return bool(units)

    def _reach_star(self, file: _File, name: str) -> bool:
        """A name that only `from … import *` can have brought."""
        if hasattr(builtins, name):
            return False
        for unit in file.stars:
            source = self.files.find(unit.imports[0].module, unit.imports[0].level, file.path)
            if source is None or self.reach(source, name):
                self.reached.setdefault(file.path, set()).add(unit)
                if source is not None:
                    return True
        return False

    def finish(self, qualname: str) -> None:
        while self._todo:
            if self._count > MOST_STATEMENTS:
                raise ValueError(
                    f"code {qualname} reaches more than {MOST_STATEMENTS:,} statements of {str(self.files.root)!r}: it is a "
                    "library's; wrap it in a class or function of the study file"
                )
            path, unit = self._todo.pop()
            for name, attributes in unit.uses.names.items():
                self.reach(path, name)
                for imported in self._imports(path, name):
                    self._follow(path, imported, attributes)
            for imported in unit.uses.imports:
                self._follow(path, imported, {None})

    def _imports(self, path: Path, name: str) -> list[Import]:
        units = self.files.read(path).binding(name)
        nested = [imported for unit in units for imported in unit.uses.imports]
        return [imported for unit in units for imported in unit.imports] + [i for i in nested if i.bound == name]

    def _follow(self, path: Path, imported: Import, attributes: set[str | None]) -> None:
        """Into the file that is imported from, where it belongs here."""
        source = self.files.find(imported.module, imported.level, path)
        if imported.name is None:  # `import helper`, of which attributes are used
            for attribute in attributes:
                name, _, rest = attribute.partition(".") if attribute else (None, "", "")
                if source is not None and self.reach(source, name):
                    continue
                if name is not None:  # `import package.module`
                    self._follow(path, Import(imported.module, name, "", imported.level), {rest or None})
            return
        if source is not None and self.reach(source, imported.name):
            return
        inner = f"{imported.module}.{imported.name}" if imported.module else imported.name
        if self.files.has(inner, imported.level, path):  # `from package import module`
            self._follow(path, Import(inner, None, "", imported.level), attributes)

    def result(self, qualname: str, first: Path) -> Reached:
        paths = [first, *sorted(path for path in self.reached if path != first)]
        canonical_pieces, texts = [qualname], []
        for path in paths:
            file = self.files.read(path)
            units = [unit for unit in file.units if unit in self.reached[path]]
            canonical_pieces += [unit.canonical for unit in units]
            statements = dict.fromkeys(unit.node for unit in units)
            pieces = [_text(file, node) for node in statements]
            texts.append("\n\n".join([f"# {path.relative_to(self.files.root).as_posix()}", *pieces]))
        return Reached("\n".join(canonical_pieces), "\n\n\n".join(texts) + "\n")


def _text(file: _File, node: ast.stmt) -> str:
    decorators = getattr(node, "decorator_list", [])
    start = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return "\n".join(file.lines[start - 1 : node.end_lineno])
