"""Facts that come with the package: `atlas` (the embedded model's own) and `lre`.

The facts of `lre` are those of the LRE data set; its wordings and its translations are ours. In
other languages than English a relation is there where it has wordings in them: its objects, and
its subjects where they are countries, are taken from `translations.toml`; all other names stay
as they are, and a fact of which an object has no translation is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files

from broca.errors import FactsError

from .reading import Source, read_toml
from .tables import RawFact, read_table
from .templates import RelationInfo, read_templates

SHIPPED = ("atlas", "lre")
TRANSLATIONS = "translations.toml"
Parts = tuple[list[RawFact], dict[str, RelationInfo]]


def facts_for(source: str, *, embedded: bool) -> str:
    """What `facts = "auto"` means: atlas's facts for the embedded model, LRE's for every other.

    Args:
        source: The setting; anything but "auto" is given back.
        embedded: Whether the model is the embedded one, or an edited copy of it.
    """
    return ("atlas" if embedded else "lre") if source == "auto" else source


@cache
def read_shipped(name: str) -> Parts:
    """Raw facts and relation infos of one of :data:`SHIPPED`.

    Raises:
        FactsError: The installation is damaged.
    """
    folder = files("broca") / name
    if not (folder / "facts.jsonl").is_file():
        raise FactsError("the facts that come with broca are missing", name, "Install broca again")
    facts, infos = read_table(folder / "facts.jsonl"), read_templates(folder / "templates.toml")
    if (folder / TRANSLATIONS).is_file():
        facts = [*facts, *_translated(facts, infos, folder / TRANSLATIONS)]
    return facts, infos


def _translated(
    facts: list[RawFact], infos: Mapping[str, RelationInfo], path: Source
) -> Iterator[RawFact]:
    languages, _ = read_toml(path, FactsError)
    for language, words in languages.items():
        for fact in facts:
            info = infos[fact.relation]
            if language not in info.templates or not all(one in words for one in fact.objects):
                continue
            subject = words.get(fact.subject) if info.concept == "country" else fact.subject
            if subject:
                yield replace(
                    fact,
                    subject=subject,
                    objects=tuple(dict.fromkeys(words[one] for one in fact.objects)),
                    language=language,
                    id=fact.id or f"{fact.relation}:{fact.subject}",
                )
