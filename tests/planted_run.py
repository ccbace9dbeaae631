"""A run of the planted model with its questions as they were asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from broca.model import LanguageModel
from broca.prompts import ChoicePrompt
from broca.scores import QuerySets
from broca.store import RunFolder

REGIONS: dict[str, Any] = {
    "studies": ["queries.localisation", "queries.overlap", "queries.embedding", "queries.common"],
    "n_prompts": 1,
    "n_permutations": 400,
    "n_resamples": 50,
    "methods": ["na-ica"],
    "map_bins": 32,
}
APPLICATIONS: dict[str, Any] = {
    "studies": ["queries.effect", "queries.flips", "queries.prediction"],
    "n_prompts": 2,
    "n_unrelated": 1,
    "n_matched": 2,
    "methods": ["na-ica", "na", "random"],
    "n_resamples": 200,
    "n_permutations": 200,
}


@dataclass(frozen=True)
class PlantedRun:
    """A run of the planted model.

    Attributes:
        folder: The run.
        model: The model.
        sets: The neurons found.
        prompts: The questions as they were asked.
    """

    folder: RunFolder
    model: LanguageModel
    sets: QuerySets
    prompts: list[ChoicePrompt]

    def table(self, study: str, name: str) -> list[dict[str, Any]]:
        """A table of a study's findings."""
        return self.folder.read_json("findings.json")[f"queries.{study}"]["tables"][name]

    @property
    def page(self) -> str:
        """The page as HTML."""
        return (self.folder.path / "report.html").read_text(encoding="utf-8")


def tables(run: RunFolder, study: str) -> dict[str, list[dict[str, Any]]]:
    """The tables of a study's findings by name."""
    return run.read_json("findings.json")[study]["tables"]
