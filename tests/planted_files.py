"""The planted model's facts as the files a user has, and quick settings for runs on it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from broca.store import write_toml
from planted import planted_world
from planted_words import NAMES

QUICK: dict[str, Any] = {
    "studies": ["relations.intra", "relations.inter", "relations.controls"],
    "model": "planted",
    "form": "question",
    "k": 6,
    "sites": ["hidden"],
    "n_evaluation": 10,
    "n_checked": 8,
    "min_detection": 4,
    "n_matched": 20,
    "n_matched_whole": 2,
    "n_null": 10,
    "n_active": 2,
    "n_uniform": 1,
    "n_shuffled": 1,
    "n_resamples": 200,
    "n_permutations": 500,
}
"""A recipe for the planted model; `facts` is to be added."""


def write_planted_facts(folder: Path, names: Iterable[str] = NAMES) -> Path:
    """`facts.jsonl` with `templates.toml` beside it; the path of the former."""
    world = planted_world()
    wanted = set(names)
    lines = [
        {
            "subject": f.subject,
            "relation": f.relation,
            "object": o,
            "id": f"{f.relation}/{f.subject}",
        }
        for f in world.facts
        if f.relation in wanted
        for o in f.objects
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "facts.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    templates = {
        name: {"templates": {"en": {kind: list(w) for kind, w in world.templates[name].items()}}}
        for name in NAMES
        if name in wanted
    }
    (folder / "templates.toml").write_text(write_toml(templates), encoding="utf-8")
    return path
