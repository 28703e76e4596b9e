"""How every field of a configuration becomes a command-line option, with no list of fields kept by hand."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from vitbench.config import Config

Command = TypeVar("Command", bound=Callable[..., Any])


def with_config_options(config: type[Config], *, skip: Sequence[str]) -> Callable[[Command], Command]:
    """Adds an option for every field of `config` to a typer command that takes the context.

    The options are read back with `given_fields`; the command itself does not see them.
    """

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        names = [name for name in config.model_fields if name not in skip]
        own = list(signature.parameters.values())
        added = [_parameter(name, config.model_fields[name]) for name in names if name not in signature.parameters]

        def wrapper(**arguments: Any) -> Any:
            return command(**{name: value for name, value in arguments.items() if name not in names})

        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        parameters = [*own, *added]
        wrapper.__dict__["__signature__"] = signature.replace(parameters=parameters)  # where inspect looks first
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        return cast(Command, wrapper)

    return decorate


def given_fields(context: typer.Context, config: type[Config]) -> dict[str, Any]:
    """The fields of `config` that were given on the command line, as values that the configuration validates.

    Raises ValueError for a text that cannot be the field's value.
    """
    given = {}
    for name, field in config.model_fields.items():
        text = context.params.get(name)
        if text is not None:
            given[name] = parse(name, text, field) if isinstance(text, str) else text
    return given


def parse(name: str, text: str, field: FieldInfo) -> Any:
    """`32`, `28x32` (a size), `3,4,9` (a list), `none` (also no list), or the text itself for the configuration to judge."""
    if text.lower() == "none" and type(None) in _parts(field.annotation):
        return None
    if text.lower() == "none" and _is_sequence(field) and not _takes_int(field):
        return ()
    if _is_sequence(field):
        separator = "x" if "x" in text else ","
        parts = text.split(separator)
        if not all(part.strip().isdecimal() for part in parts):
            raise ValueError(f"{name} {text!r} is not a whole number or several; give 32, 28x32 or 3,4,9")
        numbers = tuple(int(part) for part in parts)
        return numbers if len(numbers) > 1 or not _takes_int(field) else numbers[0]
    return text


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    is_flag = field.annotation is bool
    option = typer.Option(help=_help(field), show_default=False)
    kind: Any = bool if is_flag else str
    annotation = Annotated[kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _help(field: FieldInfo) -> str:
    choices = [choice for part in _parts(field.annotation) if get_origin(part) is Literal for choice in get_args(part)]
    what = ", ".join(map(str, choices)) + "; " if choices else ""
    return f"{what}by itself {field.default}."


def _parts(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType, Annotated):
        return [part for inner in get_args(annotation) for part in _parts(inner)]
    return [annotation]


def _is_sequence(field: FieldInfo) -> bool:
    return any(get_origin(part) is tuple for part in _parts(field.annotation))


def _takes_int(field: FieldInfo) -> bool:
    return int in _parts(field.annotation)


def model_kwargs(texts: Sequence[str] | None) -> dict[str, Any]:
    """`KEY=VALUE` of a model of timm, as `options` of its configuration; a value is JSON, or text where it is none."""
    options: dict[str, Any] = {}
    for text in texts or ():
        name, separator, value = text.partition("=")
        if not separator or not name.isidentifier():
            raise ValueError(f"model_kwargs {text!r} is not KEY=VALUE; give them as in depth=6 or layers=[2,2]")
        if name in options:
            raise ValueError(f"model_kwargs {name!r} is given twice; give it once")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return {"options": options} if options else {}
