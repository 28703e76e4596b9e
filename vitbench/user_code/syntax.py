"""Which names does a statement bind, change, use and import, and what is it apart from comments, docstrings and layout?"""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Import:
    """`from module import name as bound`; without a name, `import module as bound`."""

    module: str
    name: str | None
    bound: str
    level: int = 0

    def __str__(self) -> str:
        return f"import {'.' * self.level}{self.module}:{self.name or ''} as {self.bound}"


@dataclass
class Uses:
    """Global names that a statement uses: of each, what it asks for, as in `a.b` of `name.a.b`; None where it stands alone."""

    names: dict[str, set[str | None]] = field(default_factory=dict)
    imports: list[Import] = field(default_factory=list)
    """Those within the statement, in functions for instance."""


def imports_of(node: ast.Import | ast.ImportFrom) -> list[Import]:
    if isinstance(node, ast.ImportFrom):
        return [Import(node.module or "", a.name, a.asname or a.name, node.level) for a in node.names]
    # `import a.b` binds a, and `import a.b as c` a.b
    return [
        Import(a.name if a.asname else a.name.partition(".")[0], None, a.asname or a.name.partition(".")[0])
        for a in node.names
    ]


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def bound_names(node: ast.AST) -> frozenset[str]:
    """Names that a statement binds in its own scope, or changes: `x = …`, `x[0] = …`, `x.k = …`, `x.append(…)`, `f(x)`.

    What a call without a result does with the names that it is given, but for `print`, is taken for a change of them.
    """
    return frozenset(_bound(node)) | frozenset(_changed(node))


def _bound(node: ast.AST) -> Iterator[str]:
    """Names that are bound in this scope."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (name.bound for name in imports_of(node))
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
        yield node.id
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest
    for child in _in_scope(node):
        yield from _bound(child)


def _changed(node: ast.AST) -> Iterator[str]:
    """Names of this scope whose objects are changed."""
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        yield from _root(node)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        call = node.value
        if not (isinstance(call.func, ast.Name) and call.func.id == "print"):
            arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
            yield from _root(call.func) if isinstance(call.func, ast.Attribute) else ()
            yield from (argument.id for argument in arguments if isinstance(argument, ast.Name))
    for child in _in_scope(node):
        yield from _changed(child)


def _in_scope(node: ast.AST) -> Iterable[ast.AST]:
    """The parts of a node that bind names in the scope around it: of a comprehension, what `:=` binds."""
    if isinstance(node, _COMPREHENSIONS):
        return [part for part in ast.walk(node) if isinstance(part, ast.NamedExpr)]
    return () if isinstance(node, _SCOPES) else ast.iter_child_nodes(node)


def _root(node: ast.expr) -> Iterator[str]:
    """x of `x.a[0].b`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id


def called_at_once(node: ast.stmt) -> set[str]:
    """Names of what a statement calls as it is run: in decorators, too, and the metaclass of a class."""
    called: set[str] = set()
    todo: list[ast.AST] = [node]
    while todo:
        part = todo.pop()
        if isinstance(part, ast.Call):
            called |= {*_root(part.func)}
        for decorator in getattr(part, "decorator_list", ()):
            called |= {*_root(decorator)}
        if isinstance(part, ast.ClassDef):
            for keyword in part.keywords:
                called |= {*_root(keyword.value)}
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo += [*getattr(part, "decorator_list", ()), part.args]
        else:
            todo += ast.iter_child_nodes(part)
    return called


def called_anywhere(node: ast.stmt) -> set[str]:
    """Names of what a function or a class's functions call."""
    return {name for part in ast.walk(node) if isinstance(part, ast.Call) for name in _root(part.func)}


def bases_that_watch(node: ast.stmt, watching: Collection[str]) -> set[str]:
    """Bases of a class that are among `watching`: these are told of it (`__init_subclass__`)."""
    bases = node.bases if isinstance(node, ast.ClassDef) else []
    return {name for base in bases for name in _root(base)} & {*watching}


def is_told_of_subclasses(node: ast.stmt) -> bool:
    """Whether this is a class with `__init_subclass__`."""
    return isinstance(node, ast.ClassDef) and any(
        getattr(part, "name", "") == "__init_subclass__" for part in node.body
    )


def changed_within(node: ast.stmt) -> set[str]:
    """Global names that the functions in a function or class change when they are called."""
    changed: set[str] = set()
    for function in ast.walk(node):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}
            bound = {name for statement in function.body for name in _bound(statement)}
            declared = {name for statement in function.body for name in _declared(statement)}
            touched = {name for statement in function.body for name in _changed(statement)}
            changed |= (bound & declared) | (touched - ((arguments | bound) - declared))
    return changed


def uses_of(node: ast.AST) -> Uses:
    """What a statement at the top level of a file uses of the file's own names, and imports within."""
    visitor = _Visitor()
    visitor.visit(node)
    return visitor.uses


class _Visitor(ast.NodeVisitor):
    def __init__(self) -> None:
        self.uses = Uses()
        self._locals: list[frozenset[str]] = []

    def _use(self, name: str, attribute: str | None) -> None:
        if not any(name in names for names in self._locals):
            self.uses.names.setdefault(name, set()).add(attribute)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._use(node.id, None)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        names: list[str] = []
        value: ast.expr = node
        while isinstance(value, ast.Attribute):
            names.append(value.attr)
            value = value.value
        if isinstance(value, ast.Name):
            self._use(value.id, ".".join(reversed(names)))
        else:
            self.visit(value)

    def visit_Global(self, node: ast.Global) -> None:
        for name in node.names:
            self.uses.names.setdefault(name, set()).add(None)

    def visit_Import(self, node: ast.Import) -> None:
        self.uses.imports += imports_of(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.uses.imports += imports_of(node)

    def _visit_function(self, node: Any) -> None:
        """Decorators, defaults and annotations belong to the scope around; arguments and assigned names to the function."""
        outside = [*getattr(node, "decorator_list", ()), node.args, getattr(node, "returns", None)]
        for part in outside:
            if part is not None:
                self.visit(part)
        body = node.body if isinstance(node.body, list) else [node.body]
        arguments = {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
        assigned = {name for statement in body for name in _bound(statement)}
        elsewhere = {name for statement in body for name in _declared(statement)}
        self._locals.append(frozenset((arguments | assigned) - elsewhere))
        for statement in body:
            self.visit(statement)
        self._locals.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _visit_function  # noqa: N815

    def _visit_comprehension(self, node: Any) -> None:
        names = {
            part.id
            for generator in node.generators
            for part in ast.walk(generator.target)
            if isinstance(part, ast.Name)
        }
        self.visit(node.generators[0].iter)  # which is of the scope around
        self._locals.append(frozenset(names))
        self.generic_visit(node)
        self._locals.pop()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_comprehension  # noqa: N815


def _declared(node: ast.AST) -> Iterator[str]:
    """Names that a function declares global or nonlocal."""
    if isinstance(node, ast.Global | ast.Nonlocal):
        yield from node.names
    for child in _in_scope(node):
        yield from _declared(child)


_LEFT_OUT = ("ctx", "kind", "type_comment", "type_ignores")


def canonical(node: Any) -> str:
    """The syntax tree as text, alike in all versions of Python: no positions, no docstrings or bare strings, no `pass`."""
    if isinstance(node, list):
        return f"[{' '.join(canonical(item) for item in node if not _is_empty(item))}]"
    if not isinstance(node, ast.AST):
        return json.dumps(node) if isinstance(node, str) else repr(node)
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__}:{json.dumps(node.value) if isinstance(node.value, str) else ascii(node.value)}"
    if isinstance(node, ast.JoinedStr):
        return f"(f {' '.join(_joined(node))})"
    fields = ((name, value) for name, value in ast.iter_fields(node) if name not in _LEFT_OUT)
    written = [
        f"{name}={canonical(value)}" for name, value in fields if value not in (None, []) and not _is_blank(value)
    ]
    return f"({' '.join([type(node).__name__, *written])})"


def _joined(node: ast.JoinedStr) -> list[str]:
    """The pieces of an f-string; texts that follow one another are one, however a version of Python cuts them."""
    pieces: list[str] = []
    text = ""
    for value in node.values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            text += value.value
            continue
        pieces += [json.dumps(text)] if text else []
        text = ""
        pieces.append(canonical(value))
    return [*pieces, json.dumps(text)] if text else pieces


def _is_blank(value: Any) -> bool:
    """A format specification without text: `f"{x:}"`."""
    return isinstance(value, ast.JoinedStr) and not _joined(value)


def _is_empty(statement: Any) -> bool:
    bare = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass) or (bare and isinstance(statement.value.value, str))
