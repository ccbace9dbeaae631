"""Facts: what a model may know, as (subject, relation, right objects), and the ways to ask for it.

Steps: `reading` parses files and names the line at fault, `lre` and `tables` turn them into raw
facts, `templates` holds the wordings, `load` assembles relations, `split` parts their subjects.
"""

from __future__ import annotations

from .fact import Fact, Relation, Relations, UnknownRelationError
from .load import load_relations
from .names import RELATION_ALIASES, RELATION_NAMES

__all__ = [
    "RELATION_ALIASES",
    "RELATION_NAMES",
    "Fact",
    "Relation",
    "Relations",
    "UnknownRelationError",
    "load_relations",
]
