"""What a study shows: a file of `report/<family>/` offers one thing, its `REPORT`.

A study is found by its name alone: "queries.free-form" is shown by `report/queries/free_form.py`,
and so is a variant of it, "queries.free-form.languages".
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import broca.report
from broca.report.page import Answer, Section
from broca.report.parts.figure import Figure
from broca.report.stored_run import StoredRun


def _nothing(run: StoredRun, study: str) -> list:
    return []


@dataclass(frozen=True)
class StudyReport:
    """How the findings of one study are shown; each part takes the run and the study's name.

    Attributes:
        sections: Below the first screen.
        answers: For the first screen.
        pictures: For the first screen.
        notices: What a reader must know first.
    """

    sections: Callable[[StoredRun, str], list[Section]]
    answers: Callable[[StoredRun, str], list[Answer]] = _nothing
    pictures: Callable[[StoredRun, str], list[Figure]] = _nothing
    notices: Callable[[StoredRun, str], list[str]] = _nothing


def families() -> list[str]:
    """Families of studies that have a room here."""
    packages = (m.name for m in pkgutil.iter_modules(broca.report.__path__) if m.ispkg)
    return [name for name in packages if name not in ("parts", "templates")]


def family_notices(family: str, run: StoredRun) -> list[str]:
    """What a reader must know of all studies of a family."""
    if family not in families():
        return []
    tell = getattr(import_module(f"broca.report.{family}"), "notices", None)
    return tell(run) if tell else []


def find_report(study: str) -> StudyReport | None:
    """How a study is shown, None where nobody wrote that."""
    family, _, rest = study.partition(".")
    module = f"broca.report.{family}.{rest.partition('.')[0].replace('-', '_')}"
    if family not in families() or find_spec(module) is None:
        return None
    return import_module(module).REPORT
