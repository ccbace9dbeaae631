"""What the report reads of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from broca.store import RunFolder


@dataclass(frozen=True)
class StoredRun:
    """What the report reads of a run.

    Attributes:
        folder: The run.
    """

    folder: RunFolder

    @cached_property
    def findings(self) -> Mapping[str, Any]:
        """Study -> its figures, tables and words."""
        return self.folder.read_json("findings.json")

    @property
    def studies(self) -> list[str]:
        """Studies with findings, in the order in which they were asked for."""
        asked = self.folder.config.get("studies", ())
        return [
            study for study in dict.fromkeys((*asked, *self.findings)) if study in self.findings
        ]

    @cached_property
    def prompts(self) -> Mapping[str, Any]:
        """Prompts by id."""
        return self.folder.prompts()

    @cached_property
    def environment(self) -> Mapping[str, Any]:
        """Versions, model, machine."""
        return self.folder.environment

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """Flat figures."""
        return self.folder.summary

    def setting(self, family: str, name: str, default: Any = None) -> Any:
        """A setting of a family of studies; its table in runs of several families.

        Args:
            family: "relations" or "queries".
            name: The setting; "relations" may also be one, which is no table.
            default: What runs have that do not name it.
        """
        config = self.folder.config
        table = config.get(family)
        return (table if isinstance(table, Mapping) else config).get(name, default)

    def table(self, study: str, name: str) -> list[dict[str, Any]]:
        """A table of a study's findings, empty if there is none."""
        return self.findings.get(study, {}).get("tables", {}).get(name, [])

    def words(self, study: str) -> list[str]:
        """The sentences of a study's findings."""
        return self.findings.get(study, {}).get("words", [])
