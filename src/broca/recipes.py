"""Recipes: runs written down as TOML, with overrides from the command line.

A recipe is plain values; nothing in it is executed. `load_recipe` reads one, `build_config` turns
it (or a table of it) into the frozen dataclass of a study, checked field by field.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from broca.errors import RecipeError, known_names
from broca.reading import parse_toml, read_text
from broca.settings import NO_LIST, NotASettingError, adapters_of, read_setting, refused

Config = TypeVar("Config")


class Given(str):
    """A value as typed on the command line; the field it is for decides what type it has."""


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a recipe and lay `key=value` overrides over it.

    Args:
        path: A TOML file, or the `config.toml` of a run, which repeats that run.
        overrides: Texts such as `"k=3000"` or `"ladder.steps=10,50,200"`. Their values stay
            `Given` until `build_config` knows their types.

    Raises:
        RecipeError: No such file, no valid TOML, or a malformed override.
    """
    path = Path(path)
    if not path.exists():
        raise _missing(path)
    values = parse_toml(read_text(path, RecipeError), str(path), RecipeError)
    values.pop("format", None)  # a run's config.toml names the format of its folder
    if isinstance(values.get("engine"), str):  # short for a table with nothing else
        values["engine"] = {"kind": values["engine"]}
    return apply_overrides(values, overrides)


def _missing(path: Path) -> RecipeError:
    siblings = [file.name for file in path.parent.glob("*.toml")]
    near = difflib.get_close_matches(path.name, siblings, n=1)
    mend = f"Did you mean {path.parent / near[0]}?" if near else "Give the path of a TOML file"
    return RecipeError("there is no such recipe", where=str(path), mend=mend)


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of nested values with `key=value` texts laid over it, later ones last.

    Raises:
        RecipeError: An override has no `=`, no key, or a key below something that is no table.
    """
    result = _copy(values)
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise RecipeError(
                "an override must look like key=value", where=override, mend="For example k=3000"
            )
        table = result
        for part in parts[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise RecipeError(f"{part!r} holds a value, not settings", where=override)
        table[parts[-1]] = Given(text.strip())
    return result


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()
    }


def build_config(config: type[Config], values: Mapping[str, Any], where: str = "recipe") -> Config:
    """An instance of a frozen dataclass from a recipe's values.

    Args:
        config: A dataclass; fields may be dataclasses again (tables of the recipe).
        values: Settings by field name; fields left out keep their defaults.
        where: Named in errors.

    Raises:
        RecipeError: A setting is unknown (the nearest known one is named), lacks its value or
            has a value of the wrong type. Whatever else the dataclass refuses comes through.
    """
    fields = {field.name: field for field in dataclasses.fields(config) if field.init}  # pyright: ignore
    types, adapters = get_type_hints(config), adapters_of(config)
    for name in values:
        if name not in fields:
            raise _unknown(name, fields, where)
    for name, field in fields.items():
        if name not in values and _is_required(field):
            raise RecipeError(f"the setting {name!r} is missing", where=where)
    return config(
        **{
            name: _field_value(types[name], value, name, where, adapters[name])
            for name, value in values.items()
        }
    )


def _is_required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _unknown(name: str, known: Iterable[str], where: str) -> RecipeError:
    mend = known_names(name, sorted(known), cutoff=0.5)
    return RecipeError(f"there is no setting {name!r}", where, mend)


def _field_value(wanted: Any, value: Any, name: str, where: str, adapter: Any) -> Any:
    if dataclasses.is_dataclass(wanted) and isinstance(value, Mapping):
        return build_config(wanted, value, where=f"{where}, table {name!r}")  # pyright: ignore
    if isinstance(value, Given):
        candidates = _readings(value)
    else:
        candidates = iter([_plain(value), None] if value == "none" else [_plain(value)])
    reasons = []
    for candidate in candidates:
        try:
            return read_setting(adapter, candidate)
        except NotASettingError as reason:
            reasons.append(reason)
    within = (reason for reason in reasons if str(reason) != NO_LIST)  # of what a list holds
    raise refused(name, value, next(within, reasons[0]), where)


def _plain(value: Any) -> Any:
    """Nested `Given` values in a mapping-typed field, read as TOML where they are TOML."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return next(_readings(value)) if isinstance(value, Given) else value


def _readings(text: Given) -> Iterator[Any]:
    """What a typed text can mean, the most literal reading first."""
    literal = _as_toml(text)
    if literal is not None:
        yield literal
    elif text.lower() in ("true", "false"):
        yield text.lower() == "true"
    yield str(text)
    yield [_item(part.strip()) for part in text.split(",") if part.strip()]
    yield [part.strip() for part in text.split(",") if part.strip()]
    if text.lower() in ("none", "null"):
        yield None


def _as_toml(text: str) -> Any:
    """The one TOML value a text is, None where it is none."""
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML, thousands of digits, or nested as deeply
        return None
    return values["value"] if len(values) == 1 else None


def _item(text: str) -> Any:
    literal = _as_toml(text)
    return text if literal is None else literal


def config_values(config: Any) -> dict[str, Any]:
    """A config dataclass as the plain values a recipe or a run's `config.toml` holds.

    TOML has no null. A None that is the field's default is left out; one that is not becomes the
    text "none", which `build_config` reads back.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            values[field.name] = config_values(value)
        elif value is not None:
            values[field.name] = value
        elif field.default is not None:
            values[field.name] = "none"
    return values
