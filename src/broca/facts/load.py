"""Facts from files, or of those that come with the package, in one language: `load_relations`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from broca.errors import FactsError

from .fact import Fact, Relation, Relations, unknown_relation
from .lre import read_lre
from .names import RELATION_NAMES, canonical_name
from .shipped import SHIPPED, Parts, read_shipped
from .tables import RawFact, read_table
from .templates import RelationInfo, read_templates, toml_key

PAPER = "paper"
FORMATS = 'Give a folder or file of LRE JSON, a .jsonl, .csv or .tsv file, "lre" or "atlas"'


def load_relations(
    source: str | Path,
    *,
    templates: str | Path | Mapping[str, Any] | None = None,
    language: str = "en",
    relations: str | Iterable[str] | None = None,
    include_companions: bool = False,
) -> Relations:
    """Load facts with the wordings that ask for them.

    Args:
        source: "lre" (the 47 relations of the LRE data set in our own wordings); "atlas" (the
            embedded model's facts); a folder or file of LRE JSON; a folder with
            `facts.jsonl` and `templates.toml`; a JSONL, CSV or TSV file with the columns
            subject, relation, object and optionally language, id, band, exposure, derived.
        templates: TOML file (or mapping) of wordings; takes the place of a source's own for the
            relations it names. A table without one uses `<table>.toml` or `templates.toml`
            beside it.
        language: Which objects and wordings to take.
        relations: Only these, in this order; LRE's file names are understood too. "paper": the
            twelve of the relation paper.
        include_companions: Also relations marked as companions, kept for comparisons.

    Raises:
        FactsError: The facts cannot be read or used; names file, line and cure.
    """
    facts, infos = _read(source, templates is not None)
    if templates is not None:
        given = read_templates(Path(templates) if isinstance(templates, str) else templates)
        infos = {**infos, **{name: _overridden(infos.get(name), i) for name, i in given.items()}}
    names = _wanted(facts, infos, relations, include_companions)
    groups: dict[str, dict[str, RawFact]] = {name: {} for name in names}
    for fact in facts:
        if fact.language == language and fact.relation in groups:
            _join(groups[fact.relation], fact)
    _check_languages(groups, facts, language, str(source))
    return Relations(
        [_relation(name, group, infos.get(name), language) for name, group in groups.items()]
    )


def load_those_in(source: str | Path, language: str) -> Relations:
    """The relations of a source that are there in a language; in English all of them.

    Raises:
        FactsError: There are none, or they cannot be read.
    """
    try:
        return load_relations(source, language=language)
    except FactsError:
        if language == "en":
            raise
    found: dict[str, Relation] = {}
    for name in load_relations(source):
        with suppress(FactsError):  # not asked about in this language
            found |= load_relations(source, language=language, relations=[name])
    if not found:
        raise FactsError(f"no facts in language {language!r}", str(source))
    return Relations(found.values())


def _read(source: str | Path, has_templates: bool) -> Parts:
    if source in SHIPPED:
        return read_shipped(str(source))
    path = Path(source)
    if path.is_dir() and (path / "facts.jsonl").is_file():
        return read_table(path / "facts.jsonl"), read_templates(path / "templates.toml")
    if not path.exists():
        raise FactsError("there is no such file or folder", str(path), FORMATS)
    if path.is_dir():
        if not any(path.glob("*.json")):
            raise FactsError("the folder holds no facts (*.json)", str(path), FORMATS)
        return read_lre(path)
    if path.suffix == ".json":
        return read_lre(path)
    if path.suffix not in (".jsonl", ".csv", ".tsv"):
        raise FactsError(f"files of kind {path.suffix!r} are not known", str(path), FORMATS)
    beside = [p for p in (path.with_suffix(".toml"), path.parent / "templates.toml") if p.exists()]
    return read_table(path), read_templates(beside[0]) if beside and not has_templates else {}


def _overridden(own: RelationInfo | None, given: RelationInfo) -> RelationInfo:
    """The given wordings, with the source's concept and kinds where the file names none."""
    if own is None:
        return given
    return replace(
        given,
        field=own.field,
        concept=given.concept or own.concept,
        object_kind=given.object_kind or own.object_kind,
        companion=own.companion,
    )


def _wanted(
    facts: list[RawFact],
    infos: Mapping[str, RelationInfo],
    asked: str | Iterable[str] | None,
    include_companions: bool,
) -> list[str]:
    known = list(dict.fromkeys(fact.relation for fact in facts))
    if asked is None:
        companions = {name for name, info in infos.items() if info.companion}
        return [name for name in known if include_companions or name not in companions]
    if asked == PAPER:
        asked = RELATION_NAMES
    elif isinstance(asked, str):
        asked = [asked]
    names = list(dict.fromkeys(n if n in known else canonical_name(n) for n in asked))
    for name in names:
        if name not in known:
            raise unknown_relation(name, known)
    return names


def _join(group: dict[str, RawFact], fact: RawFact) -> None:
    """A subject that comes again brings further right objects, not another fact."""
    first = group.get(fact.subject)
    if first is None:
        group[fact.subject] = fact
    else:
        objects = tuple(dict.fromkeys((*first.objects, *fact.objects)))
        group[fact.subject] = replace(first, objects=objects)


def _check_languages(
    groups: Mapping[str, Mapping[str, RawFact]], facts: list[RawFact], language: str, where: str
) -> None:
    empty = [name for name, group in groups.items() if not group]
    if not groups or empty:
        there = sorted({fact.language for fact in facts if fact.relation in (empty or [])})
        raise FactsError(
            f"no facts in language {language!r}" + (f" for {', '.join(empty)}" if empty else ""),
            where,
            f"Languages there: {', '.join(there) or 'none'}",
        )


def _relation(
    name: str, group: Mapping[str, RawFact], info: RelationInfo | None, language: str
) -> Relation:
    sets = info.in_language(language) if info else {}
    first = next(iter(group.values()))
    if info is None or not sets:
        raise FactsError(
            f"relation {name} has no templates in language {language!r}",
            first.where,
            f"Give a templates file with [{toml_key(name)}] and below it: "
            f'templates = ["... {{}} ..."], or for this language alone '
            f"[{toml_key(name)}.templates.{toml_key(language)}] with finding = [...]",
        )
    facts = tuple(
        Fact(f.subject, name, f.objects, language, f.id, f.band, f.exposure, f.derived)
        for f in group.values()
    )
    seen: dict[str, RawFact] = {}
    for fact, raw in zip(facts, group.values(), strict=True):
        if fact.id in seen:
            raise FactsError(f"two facts have the id {fact.id!r}", raw.where, "Make ids unique")
        seen[fact.id] = raw
    return Relation(name, facts, sets, info.field or name, info.concept, info.object_kind, language)
