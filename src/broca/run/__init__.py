"""Runs: studies × an engine × a run folder, and going on where one stopped."""

from __future__ import annotations

from broca.run.execute import default_folder, execute
from broca.run.find import find_relation_neurons, find_relations
from broca.run.job import Job, ModelSettings, read_job

__all__ = [
    "Job",
    "ModelSettings",
    "default_folder",
    "execute",
    "find_relation_neurons",
    "find_relations",
    "read_job",
]
