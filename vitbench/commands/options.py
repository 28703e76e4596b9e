"""How do option groups and fields of configurations become options of a command? No list of them is kept by hand."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from inspect import Parameter
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from vitbench.config import ROLES, Config, DataConfig, TrainConfig, ViTConfig
from vitbench.user_code.named_code import named_code

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class ConfigFields:
    """Marks a parameter of a command that gets the fields of `config` that the user set, by name, for `config` to validate."""

    config: type[Config]
    skip: Sequence[str] = ()
    with_kwargs: bool = False
    """Whether there is `--model-kwargs` too, for the options of a model of timm."""

    def parameters(self) -> list[Parameter]:
        fields = self.config.model_fields
        kwargs = [Parameter("kwargs", Parameter.KEYWORD_ONLY, default=None, annotation=ModelKwargs)]
        return [_parameter(n, fields[n]) for n in fields if n not in self.skip] + (kwargs if self.with_kwargs else [])

    def read(self, kwargs: list[str] | None = None, **values: Any) -> dict[str, Any]:
        """Raises ValueError for a text that cannot be the field's value."""
        fields = self.config.model_fields
        parsed = {
            name: parse(name, value, fields[name]) if isinstance(value, str) else value
            for name, value in values.items()
            if value is not None
        }
        for name in ROLES if self.config is ViTConfig else ():
            if ":" in str(parsed.get(name, "")):
                parsed[name] = named_code(parsed[name], name)
        return {**parsed, **model_kwargs(kwargs)}


ModelKwargs = Annotated[
    list[str] | None,
    typer.Option("--model-kwargs", help="KEY=VALUE: an argument of a timm:NAME, as JSON; may be given again."),
]
ModelFields = Annotated[dict[str, Any], ConfigFields(ViTConfig, with_kwargs=True)]
RecipeFields = Annotated[dict[str, Any], ConfigFields(TrainConfig)]
DataFields = Annotated[dict[str, Any], ConfigFields(DataConfig, skip=("dataset",))]


def with_options(command: Command) -> Command:
    """A typer command with options in place of the parameters that are groups of them; fields of configurations come last.

    A group is a dataclass, whose fields are annotated as parameters of a command are, or marked by `ConfigFields`. The
    command gets the object, or the fields that the user set.
    """
    signature = inspect.signature(command, eval_str=True)
    parameters: list[Parameter] = []
    last: list[Parameter] = []
    groups: dict[str, tuple[list[Parameter], Callable[..., Any]]] = {}
    for parameter in signature.parameters.values():
        kind = parameter.annotation
        fields = next((mark for mark in get_args(kind) if isinstance(mark, ConfigFields)), None)
        if fields is not None:
            groups[parameter.name] = fields.parameters(), fields.read
            last += fields.parameters()
        elif isinstance(kind, type) and is_dataclass(kind):
            options = list(inspect.signature(kind, eval_str=True).parameters.values())
            groups[parameter.name] = options, kind
            parameters += options
        else:
            parameters.append(parameter)

    def wrapper(**values: Any) -> Any:
        for name, (options, read) in groups.items():
            values[name] = read(**{option.name: values.pop(option.name) for option in options})
        return command(**values)

    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    parameters = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in [*parameters, *last]]
    wrapper.__dict__["__signature__"] = signature.replace(parameters=parameters)  # where inspect looks first
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return cast(Command, wrapper)


def parse(name: str, text: str, field: FieldInfo) -> Any:
    """`32`, `28x32` (a size), `3,4,9`, `0.9,0.99` (lists), `none` (also no list), or the text itself for the configuration to
    judge.
    """
    types = _types(field.annotation)
    is_sequence, takes_int = any(get_origin(kind) is tuple for kind in types), int in types
    if text.lower() == "none" and type(None) in types:
        return None
    if text.lower() == "none" and is_sequence and not takes_int:
        return ()
    if not is_sequence:
        return text
    if any(float in get_args(part) for kind in types for part in (kind, *get_args(kind))):
        return _floats(name, text)
    parts = [part.strip() for part in text.split("x" if "x" in text else ",")]
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"{name} {text!r} is not a whole number or several; give 32, 28x32 or 3,4,9")
    numbers = tuple(map(int, parts))
    return numbers[0] if takes_int and len(numbers) == 1 else numbers


def _floats(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise ValueError(f"{name} {text!r} is no list of numbers; give them as in 0.9,0.99") from None


def _parameter(name: str, field: FieldInfo) -> Parameter:
    choices = [choice for kind in _types(field.annotation) if get_origin(kind) is Literal for choice in get_args(kind)]
    choices += ["FILE.py:NAME"] if name in ROLES else []
    what = ", ".join(map(str, choices)) + "; " if choices else ""
    option = typer.Option(
        help=f"{what}default: {'none' if field.default is None else field.default}.", show_default=False
    )
    kind: Any = bool if field.annotation is bool else str
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option])


def _types(annotation: Any) -> list[Any]:
    """What a union is of, without annotations."""
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [kind for inner in get_args(annotation) for kind in _types(inner)]
    return [annotation]


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
