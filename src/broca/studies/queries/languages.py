"""The effect study by language: claim, procedure and tests are those of `effect`."""

from __future__ import annotations

from broca.studies.queries.effect import QueryEffect

STUDIES = (QueryEffect("queries.languages", "language", "queries.languages"),)
