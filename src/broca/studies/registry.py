"""A study is found by its name alone: "relations.languages" stands in `relations/languages.py`.

A module of a family's folder that has `STUDIES` holds one, or one and its variants
("queries.flips" and "queries.flips.languages" in `queries/flips.py`). What it is shown as stands in
`report/<family>/` under the same name.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any


def find_studies(package: str, paths: Sequence[str]) -> Mapping[str, Any]:
    """Studies of a family by name.

    Args:
        package: Name of the family's package.
        paths: Its folders.
    """
    studies: dict[str, Any] = {}
    for module in pkgutil.iter_modules(paths):
        for study in getattr(import_module(f"{package}.{module.name}"), "STUDIES", ()):
            studies[study.name] = study
    return studies
