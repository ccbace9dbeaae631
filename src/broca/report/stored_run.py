"""What the report reads of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from broca.errors import RunError
from broca.store import RunFolder

TOLD = ("model", "architecture", "n_layers", "parameters", "fingerprint")
"""What a page tells of the model."""


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
        """Versions, model, machine.

        Raises:
            RunError: What a page tells of the model is not in it.
        """
        found = self.folder.environment
        lacking = [key for key in TOLD if key not in found]
        if lacking:
            raise RunError(
                f"the run does not say on which model it ran: {', '.join(lacking)} missing",
                str(self.folder.path / "environment.json"),
                "Compute it again in a new folder with this version",
            )
        return found

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
