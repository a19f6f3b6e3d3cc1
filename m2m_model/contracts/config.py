"""Strict configuration: frozen, keyword-only, unknown keys refused by name.

Every config class of the project derives from :class:`StrictConfig` and sits beside the component it configures.
"""

import datetime
import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from m2m_model.contracts.errors import UserError


class StrictConfig(BaseModel):
    """Base of all configs: immutable, and an unknown key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _takes_nothing_for_a_number(cls, values: Any) -> Any:
        """pydantic would take true for 1, "7" for 7, and the number 20170101 for a date in August 1970."""
        for name, value in values.items() if isinstance(values, Mapping) else ():
            field = cls.model_fields.get(name)
            wanted = _plain_types(field.annotation) if field else set()
            if wanted and wanted <= {int, float} and isinstance(value, bool | str):
                raise ValueError(f"{name} must be a number, however: {value!r}")
            if wanted == {datetime.date} and isinstance(value, int | float):
                raise ValueError(f"{name} must be a date like 2017-12-31, however: {value!r}")
            if wanted == {bool} and not isinstance(value, bool):
                raise ValueError(f"{name} must be true or false, however: {value!r}")
        return values


C = TypeVar("C", bound=StrictConfig)


def _plain_types(annotation: Any) -> set[Any]:
    """The types that an annotation allows beside None, an annotation of several types as all of them."""
    if get_origin(annotation) in (Union, UnionType):
        return set.union(*map(_plain_types, get_args(annotation)))
    return set() if annotation is NoneType else {annotation}


def read_toml(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML file and lay ``section.key=value`` overrides over it.

    An override's value is a TOML value (``5``, ``true``, ``[1, 2]``, ``2017-12-31``); what is not one is a string.
    """
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"config {path} does not exist: pass --config with the path of a run's TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"config {path} is not valid TOML: {error}") from None
    for override in overrides:
        _apply_override(table, override)
    return table


def parse(config_class: type[C], table: Mapping[str, Any], *, source: str) -> C:
    """Validate ``table`` as ``config_class``.

    Raises:
        UserError: one line per problem, each with the full key; an unknown key names the nearest valid one.
    """
    try:
        return config_class.model_validate(table)
    except ValidationError as error:
        lines = [_describe(config_class, problem) for problem in error.errors()]
        raise UserError(f"{source}: " + "; ".join(lines)) from None


def _apply_override(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    *parents, leaf = (part.strip() for part in key.split("."))
    if not equals or not all([*parents, leaf]):
        raise UserError(f"--set must be section.key=value, however: {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UserError(f"--set {override}: {parent!r} is a value, not a section")
    table[leaf] = value


def _describe(config_class: type[StrictConfig], problem: Any) -> str:
    location = tuple(str(part) for part in problem["loc"])
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        nearest = _nearest(config_class, location)
        return f"unknown key {key!r}" + (f" (did you mean {nearest!r}?)" if nearest else "")
    if problem["type"] == "missing":
        return f"missing key {key!r}"
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"])
        return f"{key}: {message}" if key else message
    return f"{key}: {problem['msg']}, however: {problem['input']!r}"


def _nearest(config_class: type[StrictConfig], location: tuple[str, ...]) -> str | None:
    *parents, wrong = location
    classes = [config_class]
    for parent in parents:
        fields = [c.model_fields[parent].annotation for c in classes if parent in c.model_fields]
        classes = [found for annotation in fields for found in _config_classes(annotation)] or classes
    valid = sorted({name for c in classes for name in c.model_fields})
    matches = difflib.get_close_matches(wrong, valid, n=1, cutoff=0.0)
    return ".".join([*parents, matches[0]]) if matches else None


def _config_classes(annotation: Any) -> Iterator[type[StrictConfig]]:
    if isinstance(annotation, type) and issubclass(annotation, StrictConfig):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, dict, tuple, list) or get_args(annotation):
        for argument in get_args(annotation):
            yield from _config_classes(argument)
