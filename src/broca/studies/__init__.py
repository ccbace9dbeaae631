"""One file per question asked in the papers; `study.py` is what they share."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from broca.errors import RecipeError
from broca.studies.study import Family

FAMILIES = {
    "relations": "broca.studies.relations",
    "queries": "broca.studies.queries",
    "locators": "broca.studies.locators",
}
"""Family -> its package, which has a `FAMILY`. A study is called `family.study`."""


def load_family(name: str) -> Family:
    """The family of this name, imported on first use.

    Raises:
        RecipeError: If there is none.
    """
    if name not in FAMILIES:
        raise RecipeError(f"there are no studies of {name!r}", mend=f"Known: {', '.join(FAMILIES)}")
    return cast(Family, import_module(FAMILIES[name]).FAMILY)
