"""Wordings of relations: a TOML file, or what a facts file brings along.

[company_ceo]                       # the long form; field, concept, object_kind: optional
field = "companies"
[company_ceo.templates.en]
finding = ["The CEO of {} is"]
robustness = ["{} is led by"]

[capital]                           # the short form: set "finding", whatever the language
templates = ["The capital of {} is"]
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from broca.errors import FactsError

from .names import canonical_name, field_of
from .reading import Source, line_of, normalise, read_toml
from .texts import one_text

ANY_LANGUAGE = "*"
KEYS = ("templates", "field", "concept", "object_kind", "companion")
SLOT_MEND = 'Write "{}" once, where the subject goes: "The capital of {} is"'


@dataclass(frozen=True)
class RelationInfo:
    """What is known of a relation besides its facts.

    Attributes:
        templates: Language (or "*") -> template set -> wordings.
        companion: Kept for comparisons; loaded only when asked for.
    """

    templates: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    field: str = ""
    concept: str = ""
    object_kind: str = ""
    companion: bool = False

    def in_language(self, language: str) -> Mapping[str, tuple[str, ...]]:
        """Template sets of one language; empty when there are none."""
        return self.templates.get(language) or self.templates.get(ANY_LANGUAGE) or {}


def toml_key(name: str) -> str:
    """A name as a TOML table can be called: in quotes unless it is plain."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def check_wordings(wordings: object, relation: str, where: str, text: str) -> tuple[str, ...]:
    """Cleaned wordings without repetition, each with exactly one slot.

    Raises:
        FactsError: They are no list of strings, or one has not exactly one `{}`.
    """
    if not isinstance(wordings, Sequence) or isinstance(wordings, str):
        raise FactsError(f"the templates of {relation} are not a list", where, SLOT_MEND)
    for wording in wordings:
        if not isinstance(wording, str) or wording.count("{}") != 1:
            line = line_of(text, str(wording))
            raise FactsError(
                f"a template of {relation} has not exactly one slot: {wording!r}",
                f"{where}, {line}" if line else where,
                SLOT_MEND,
            )
    return tuple(dict.fromkeys(normalise(wording) for wording in wordings))


def read_templates(source: Source | Mapping[str, Any]) -> dict[str, RelationInfo]:
    """Relation name -> its wordings, from a TOML file or a mapping of the same form.

    Raises:
        FactsError: The file cannot be read, or an entry has another form.
    """
    if isinstance(source, Mapping):
        document, text, where = dict(source), "", "templates"
    else:
        (document, text), where = read_toml(source, FactsError), str(source)
    infos = {canonical_name(name): _info(name, e, where, text) for name, e in document.items()}
    if not infos:
        raise FactsError("there are no relations in the templates", where, SLOT_MEND)
    return infos


def _info(name: str, entry: object, where: str, text: str) -> RelationInfo:
    entry = dict(entry) if isinstance(entry, Mapping) else {"templates": entry}
    unknown = entry.keys() - KEYS
    if unknown:
        raise FactsError(
            f"unknown key {sorted(unknown)[0]!r} of {name}", where, f"Known: {', '.join(KEYS)}"
        )
    templates = entry.get("templates", {})
    if not isinstance(templates, Mapping):
        templates = {ANY_LANGUAGE: {"finding": templates}}
    languages = {}
    for language, sets in templates.items():
        if not isinstance(sets, Mapping):
            raise FactsError(
                f"the templates of {name} in {language!r} name no template set",
                f"{where}, {line_of(text, name)}".rstrip(", "),
                f"Write [{toml_key(name)}.templates.{toml_key(language)}] and below it: "
                'finding = ["..."]',
            )
        languages[language] = {
            str(kind): check_wordings(wordings, name, where, text)
            for kind, wordings in sets.items()
        }
    return RelationInfo(
        templates=languages,
        field=_text(entry, "field", where, name) or field_of(canonical_name(name)),
        concept=_text(entry, "concept", where, name),
        object_kind=_text(entry, "object_kind", where, name),
        companion=_companion(entry, where, name),
    )


def _text(entry: Mapping[str, Any], key: str, where: str, name: str) -> str:
    return one_text(entry.get(key), f"{key} of {name}", where, FactsError)


def _companion(entry: Mapping[str, Any], where: str, name: str) -> bool:
    value = entry.get("companion", False)
    if not isinstance(value, bool):
        raise FactsError(f"companion of {name} is neither true nor false: {value!r}", where)
    return value
