"""Runs on disk: settings, environment, neuron sets, rows, summary; the manifest last.

The contract of every file is written in docs/files.md.
"""

from __future__ import annotations

from broca.store.config import is_run
from broca.store.damage import Damage, find_damage
from broca.store.files import canonical_json, condition_key, replacing, sha256_of
from broca.store.folder import RunFolder
from broca.store.joining import PROGRESS
from broca.store.listing import RunEntry, list_runs
from broca.store.names import file_name, name_of
from broca.store.ours import PAGE_MARK, refuse_overwriting
from broca.store.rows import ROW_SCHEMA, RowFolder, rows_table
from broca.store.set_files import reads_as_run, set_files
from broca.store.summary import flat_summary, summary_key
from broca.store.toml import write_toml

__all__ = [
    "PAGE_MARK",
    "PROGRESS",
    "ROW_SCHEMA",
    "Damage",
    "RowFolder",
    "RunEntry",
    "RunFolder",
    "canonical_json",
    "condition_key",
    "file_name",
    "find_damage",
    "flat_summary",
    "is_run",
    "list_runs",
    "name_of",
    "reads_as_run",
    "refuse_overwriting",
    "replacing",
    "rows_table",
    "set_files",
    "sha256_of",
    "summary_key",
    "write_toml",
]
