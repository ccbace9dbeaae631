"""Condense finished runs into the small files behind docs/findings.md.

    python docs/findings/collect.py NAME RUN "COMMAND"

writes docs/findings/NAME.json: the command that repeats the run, its settings, what it was computed
with, its figures to four digits (those of pairs of fields left out) and its sentences.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from broca.store import RunFolder

HERE = Path(__file__).parent
KEPT = ("model", "architecture", "parameters", "fingerprint", "dtype", "device", "versions")


def condense(run: RunFolder, command: str) -> dict[str, Any]:
    """The parts of a run that a reader of the page may want to check."""
    findings = run.read_json("findings.json")
    environment = {key: run.environment[key] for key in KEPT}
    environment["model"] = Path(environment["model"]).name
    settings = {key: _named(value) for key, value in run.config.items() if key != "model"}
    figures = {k: rounded(v) for k, v in run.summary.items() if ".pairs." not in k}
    words = {study: found["words"] for study, found in findings.items()}
    return {
        "command": command,
        "settings": settings,
        "environment": environment,
        "figures": figures,
        "words": words,
    }


def _named(value: Any) -> Any:
    """A file by its name alone: where it lay says nothing."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def rounded(value: float | int | None) -> float | int | None:
    """Four significant digits."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    name, path, command = sys.argv[1:]
    text = json.dumps(condense(RunFolder.open(path), command), indent=1, ensure_ascii=False)
    (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
