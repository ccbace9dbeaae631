"""The values: a fact, a relation (its facts and wordings), several relations together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from broca.errors import FactsError, known_names
from broca.tabular import Columns, Tabular

from .names import canonical_name
from .seeding import stable_number
from .split import split_by_subject


@dataclass(frozen=True)
class Fact:
    """One subject in one relation, with every right object.

    Attributes:
        subject: Whom or what is asked about.
        relation: Name of the relation.
        objects: All right objects, the first one the usual answer.
        language: Language of the objects.
        id: The same in every language; `relation:subject` unless the source names its own.
        band: Frequency band in the training data, 0 = rarest; None where unknown.
        exposure: How often the fact was seen, in any unit; None where unknown.
        derived: Whether it follows from another fact instead of being stated by the source.
    """

    subject: str
    relation: str
    objects: tuple[str, ...]
    language: str = "en"
    id: str = ""
    band: int | None = None
    exposure: float | None = None
    derived: bool = False

    def __post_init__(self) -> None:
        texts = (self.subject, self.relation, self.language, self.id, *self.objects)
        if isinstance(self.objects, str) or not all(isinstance(text, str) for text in texts):
            raise FactsError(
                f"a fact holds something else than texts: {self!r}"[:200],
                mend='Its objects are a tuple of texts: ("Paris",)',
            )
        if not self.subject or not self.objects or not all(self.objects):
            raise FactsError("a fact needs a subject and at least one object", str(self.id))
        if not self.id:
            object.__setattr__(self, "id", f"{self.relation}:{self.subject}")


@dataclass(frozen=True)
class Relation(Tabular):
    """The facts of one relation in one language, and the wordings that ask for them.

    Attributes:
        name: Name of the relation.
        facts: One fact per subject.
        templates: Template set -> wordings, each with exactly one `{}` for the subject.
        field: Field of knowledge, for grouping questions.
        concept: What the subjects are (person, company, ...).
        object_kind: What the objects are (city, country, ...).
        language: Language of objects and wordings.
        notes: What a reader should know, e.g. that a split fell short.
        objects: All objects of the relation, each once; those of its facts by default. A part of
            a relation keeps the objects of the whole.
    """

    name: str
    facts: tuple[Fact, ...]
    templates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    field: str = ""
    concept: str = ""
    object_kind: str = ""
    language: str = "en"
    notes: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.objects:
            listed = dict.fromkeys(o for fact in self.facts for o in fact.objects)
            object.__setattr__(self, "objects", tuple(listed))

    def __len__(self) -> int:
        return len(self.facts)

    def __repr__(self) -> str:
        sets = ", ".join(self.templates) or "none"
        return (
            f"<Relation {self.name}: {len(self):,} facts, {len(self.objects):,} objects, "
            f"{self.language}; wordings: {sets}>"
        )

    def columns(self, limit: int | None = None) -> Columns:
        """Subject, objects, language and id of every fact."""
        return fact_columns(self.facts[:limit])

    def wordings(self, template_set: str = "finding") -> tuple[str, ...]:
        """The wordings of one template set.

        Raises:
            FactsError: The relation has no such set in its language.
        """
        if not self.templates.get(template_set):
            raise FactsError(
                f"relation {self.name} has no template set {template_set!r} in {self.language}",
                mend=f"Sets it has: {', '.join(self.templates) or 'none'}",
            )
        return self.templates[template_set]

    def choose_wording(self, fact: Fact, template_set: str = "finding", seed: int = 0) -> int:
        """Position of the wording drawn for this fact: by seed and fact id, whatever the order."""
        return stable_number(seed, fact.id) % len(self.wordings(template_set))

    def split(self, n_evaluation: int = 50, seed: int = 0) -> tuple[Relation, Relation]:
        """Detection and evaluation part of this relation alone; see `Relations.split`."""
        detection, evaluation = Relations([self]).split(n_evaluation, seed)
        return detection[self.name], evaluation[self.name]


def fact_columns(facts: Sequence[Fact], *, with_relation: bool = False) -> Columns:
    """Facts as columns of a table."""
    columns: dict[str, list[Any]] = {"relation": [fact.relation for fact in facts]}
    columns |= {
        "subject": [fact.subject for fact in facts],
        "objects": [list(fact.objects) for fact in facts],
        "language": [fact.language for fact in facts],
        "id": [fact.id for fact in facts],
    }
    return columns if with_relation else {k: v for k, v in columns.items() if k != "relation"}


class UnknownRelationError(FactsError, KeyError):
    """A relation that is not there was asked for."""

    # KeyError would print the message in quotes
    __str__ = Exception.__str__


class Relations(Mapping[str, Relation], Tabular):
    """Relations by name, all in one language. LRE's file names are understood as names too."""

    def __init__(self, relations: Iterable[Relation]) -> None:
        self._relations = {relation.name: relation for relation in relations}

    def __getitem__(self, name: str) -> Relation:
        key = name if name in self._relations else canonical_name(name)
        if key not in self._relations:
            raise unknown_relation(name, self._relations)
        return self._relations[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._relations)

    def __len__(self) -> int:
        return len(self._relations)

    def __repr__(self) -> str:
        some = ", ".join(f"{name} {len(self[name])}" for name in list(self)[:6])
        more = f", and {len(self) - 6} more" if len(self) > 6 else ""
        return f"<Relations: {len(self.facts):,} facts ({some}{more})>"

    def columns(self, limit: int | None = None) -> Columns:
        """Relation, subject, objects, language and id of every fact."""
        return fact_columns(self.facts[:limit], with_relation=True)

    @property
    def language(self) -> str:
        """The language of all objects and wordings ("" when there is no relation)."""
        return next((relation.language for relation in self.values()), "")

    @property
    def facts(self) -> tuple[Fact, ...]:
        """All facts, relation by relation."""
        return tuple(fact for relation in self.values() for fact in relation.facts)

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of all relations."""
        return tuple(note for relation in self.values() for note in relation.notes)

    @cached_property
    def hash(self) -> str:
        """Fingerprint of all facts and wordings; the order of relations does not matter."""
        content = [
            [r.name, r.language, dict(r.templates), [[f.id, f.subject, f.objects] for f in r.facts]]
            for _, r in sorted(self._relations.items())
        ]
        text = json.dumps(content, ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def subset(self, names: Iterable[str]) -> Relations:
        """Only these relations, in this order.

        Raises:
            UnknownRelationError: One of them is not there.
        """
        return Relations([self[name] for name in names])

    def require_several(self, n: int = 2) -> Relations:
        """These relations, if there are at least `n`: negatives come from the other relations.

        Raises:
            FactsError: There are fewer.
        """
        if len(self) < n:
            raise FactsError(
                f"{n} relations are needed, there is {len(self)}",
                where=", ".join(self) or None,
                mend="Scores compare a relation with the others: add relations to the facts",
            )
        return self

    def split(self, n_evaluation: int = 50, seed: int = 0) -> tuple[Relations, Relations]:
        """Part all facts into detection and evaluation by their subjects, for all relations.

        No detection subject of any relation is an evaluation subject of any other. Which
        subjects go where depends on the seed and their names only. A relation gets
        `n_evaluation` evaluation facts, or half of its facts where it has fewer than twice as
        many (a note on the evaluation part says so). Facts of evaluation subjects beyond that
        number are in neither part.

        Args:
            n_evaluation: Evaluation facts per relation.
            seed: Draws the subjects.

        Raises:
            FactsError: A relation has too few facts, or too few subjects of its own, to split.
        """
        parts = split_by_subject(
            {name: relation.facts for name, relation in self.items()}, n_evaluation, seed
        )
        detection = [replace(self[name], facts=tuple(part[0])) for name, part in parts.items()]
        evaluation = [
            replace(self[name], facts=tuple(part[1]), notes=(*self[name].notes, *part[2]))
            for name, part in parts.items()
        ]
        return Relations(detection), Relations(evaluation)


def unknown_relation(name: str, known: Iterable[str]) -> UnknownRelationError:
    """The error for a relation that is not there, with the nearest name that is."""
    mend = known_names(canonical_name(name), sorted(known), cutoff=0.4)
    return UnknownRelationError(f"unknown relation {name!r}", mend=mend)
