"""What is said instead of the right answer, in a word (METHODS §2, study 2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from broca.answers import spoken
from broca.facts import Relations
from broca.prompts import Prompt

KINDS = (
    "right",
    "nothing",
    "right in another language",
    "same relation",
    "other relation",
    "function word",
    "prompt repeated",
    "other",
)
"""In the order in which they are tried."""

_ENGLISH = """
a about above after all also an and any are as at be been but by can could did do does for from
had has have he her his how i if in into is it its may more most no not of on one or our out over
s she should so some such than that the their them then there these they this to under up was we
were what when where which who whom whose why will with would you your
"""
_OTHERS = """
der die das ein eine ist von und im zu den dem des auf für mit sich el la los las un una es de y
en que por con se del al su le les et est dans pour avec du au sa son
"""
FUNCTION_WORDS = frozenset(_ENGLISH.split()) | frozenset(_OTHERS.split())


@dataclass(frozen=True)
class AnswerKinds:
    """Tells the kinds of answers apart by the objects of all relations.

    Attributes:
        objects: Relation -> normalised objects of all its facts, in all languages.
        versions: Fact id -> language -> its normalised objects.
    """

    objects: Mapping[str, frozenset[str]]
    versions: Mapping[str, Mapping[str, frozenset[str]]]

    @classmethod
    def of(cls, *languages: Relations) -> AnswerKinds:
        """Know the objects of these relations, given once per language."""
        objects: dict[str, frozenset[str]] = {}
        versions: dict[str, dict[str, frozenset[str]]] = {}
        for relations in languages:
            for fact in relations.facts:
                listed = frozenset(map(normalise, fact.objects))
                objects[fact.relation] = objects.get(fact.relation, frozenset()) | listed
                versions.setdefault(fact.id, {})[fact.language] = listed
        return cls(objects, versions)

    def kind(self, prompt: Prompt, text: str, correct: bool) -> str:
        """One of :data:`KINDS` for an answer.

        Two tokens are often the beginning of an object only: an answer counts as an object when
        an object begins with it, or when its first word is an object. Only the first line that
        says something counts, without markup.
        """
        if correct:
            return "right"
        said = normalise(spoken(text))
        if not said:
            return "nothing"
        if self._elsewhere(prompt, said):
            return "right in another language"
        if _names(said, self.objects.get(prompt.relation, ())):
            return "same relation"
        others = (o for r, o in self.objects.items() if r != prompt.relation)
        if any(_names(said, objects) for objects in others):
            return "other relation"
        if all(word in FUNCTION_WORDS for word in said.split()):
            return "function word"
        return "prompt repeated" if f" {said}" in f" {normalise(prompt.text)}" else "other"

    def _elsewhere(self, prompt: Prompt, said: str) -> bool:
        """Whether an answer is right in another language than the prompt's, and not in its own."""
        versions = self.versions.get(prompt.fact, {})
        others = (objects for name, objects in versions.items() if name != prompt.language)
        own = versions.get(prompt.language, frozenset())
        return not _names(said, own) and any(_names(said, objects) for objects in others)


def normalise(text: str) -> str:
    """Lower case, letters and digits with single spaces between words."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _names(said: str, objects: Iterable[str]) -> bool:
    first = said.split()[0]
    if said in objects or first in objects:
        return True
    if len(said) < 3 or first in FUNCTION_WORDS:
        return False
    return any(one.startswith(said) for one in objects)
