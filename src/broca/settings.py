"""Values of settings: their types and ranges, and the one strict reading of both.

A frozen dataclass of settings says in its annotations what each value may be, and calls
`check_settings` when it is made. So a recipe, a command line and Python code are held to the same:
"1", 1.5 and true are no whole number, NaN and infinity are no number, and a share is below 1.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cache
from numbers import Integral, Real
from pathlib import PurePath
from typing import Annotated, Any, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from broca.errors import BrocaError, RecipeError

MOST = 10**9

Count = Annotated[int, Field(ge=1, le=MOST)]
"""How many, at least one."""
CountFrom0 = Annotated[int, Field(ge=0, le=MOST)]
"""How many, perhaps none."""
CountFrom2 = Annotated[int, Field(ge=2, le=MOST)]
"""How many, at least two."""
Draws = Annotated[int, Field(ge=1, le=10**7)]
"""Resamples or permutations; all are held in memory."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""Seed of a generator."""
Share = Annotated[float, Field(gt=0, lt=1)]
"""A share, neither nothing nor all."""
Positive = Annotated[float, Field(gt=0)]
"""A finite number above 0."""
NotNegative = Annotated[float, Field(ge=0)]
"""A finite number from 0 on."""


class NotASettingError(ValueError):
    """A value is not what a setting may be; the message says why."""


def read_setting(adapter: TypeAdapter[Any], value: Any) -> Any:
    """A value as a setting holds it: strictly of its type, in its range, lists as tuples.

    Raises:
        NotASettingError: It is something else.
    """
    try:
        text = json.dumps(value, default=_plain)
        return adapter.validate_json(text, strict=True)
    except ValidationError as error:
        messages = dict.fromkeys(_worded(each) for each in error.errors())
        raise NotASettingError(" or ".join(list(messages)[:3])) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise NotASettingError(str(error) or "it is nested too deeply") from None


_BOUNDS = {
    "greater_than_equal": "it must be at least {ge:g}",
    "greater_than": "it must be above {gt:g}",
    "less_than_equal": "it must be at most {le:g}",
    "less_than": "it must be below {lt:g}",
}


NO_LIST = 'it must be a list, such as ["a", "b"] or [1, 2]'


def _worded(error: Any) -> str:
    if error["type"] in ("list_type", "tuple_type"):
        return NO_LIST
    if error["type"] in _BOUNDS:
        return _BOUNDS[error["type"]].format(**error["ctx"])
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}"


def _plain(value: Any) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Integral):  # numpy's
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise TypeError(f"a value of kind {type(value).__name__} is no setting")


@cache
def adapters_of(config: type) -> Mapping[str, TypeAdapter[Any]]:
    """Field -> what reads its values."""
    hints = get_type_hints(config, include_extras=True)
    return {
        field.name: _adapter(hints[field.name])
        for field in dataclasses.fields(config)
        if field.init
    }


def _adapter(wanted: Any) -> TypeAdapter[Any]:
    if dataclasses.is_dataclass(wanted):  # these check themselves
        return TypeAdapter(wanted)  # pyright: ignore[reportArgumentType]
    return TypeAdapter(wanted, config=ConfigDict(allow_inf_nan=False))


def check_settings(config: Any, error: type[BrocaError] = RecipeError) -> None:
    """Hold every field of a dataclass to its annotation; called from its `__post_init__`.

    Raises:
        BrocaError: Of the given class: a value has another type or is out of its range.
    """
    for name, adapter in adapters_of(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            continue
        try:
            object.__setattr__(config, name, read_setting(adapter, value))
        except NotASettingError as reason:
            raise refused(name, value, reason, type(config).__name__, error) from None


def refused(
    name: str,
    value: Any,
    reason: object,
    where: str,
    error: type[BrocaError] = RecipeError,
) -> BrocaError:
    """The error for a setting that cannot have a value."""
    try:
        told = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or nested as deeply
        told = "…"
    told = told if len(told) <= 80 else f"{told[:77]}…"
    return error(f"the setting {name!r} cannot be {told}: {reason}", where)
