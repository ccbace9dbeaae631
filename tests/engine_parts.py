"""Parts of the tests of engines; run as a script, it takes part in a run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broca.engines.worker import Outcome, Worker
from broca.run import execute, read_job
from broca.store import sha256_of

SMALL = {
    "effect": {
        "studies": ["relations.intra", "relations.controls"],
        "relations": ["company_ceo", "company_hq", "person_father"],
        "n_evaluation": 12,
        "n_detection": 24,
        "k": 200,
        "n_uniform": 2,
        "n_matched": 2,
        "n_shuffled": 1,
    },
    "queries": {
        "studies": ["queries.effect"],
        "per_field": 3,
        "n_unrelated": 1,
        "n_matched": 1,
        "n_free_form": 0,
    },
    "locators": {
        "studies": [
            "locators.agreement",
            "locators.planted",
            "locators.injection",
            "locators.relations",
        ],
        "relations": ["company_ceo", "company_hq", "person_father"],
        "locators": ["exact", "gradient-activation", "expertise"],
        "reference": "gradient-activation",
        "sizes": [1, 10],
        "n_prompts": 3,
        "n_group": 2,
        "n_others": 4,
        "prefilter": 0.05,
        "n_planted": 2,
        "n_injected": 2,
        "relation_locators": ["expertise", "random"],
        "relation_sizes": [3, 10],
        "n_judged": 2,
    },
}
CHANGING = {"environment.json", "elapsed.json", "summary.json", "report.html", "manifest.json"}
"""Files that hold seconds or names of machines; figures are compared in findings.json."""


def small_job(kind: str, **more: Any):
    """A run of seconds on the embedded model."""
    common = {"model": "atlas", "n_permutations": 200} if kind != "locators" else {"model": "atlas"}
    return read_job({**common, **SMALL[kind], **more})


def identical(one: Path, other: Path) -> bool:
    """Whether two runs hold the same files, byte by byte."""
    found = [
        {
            str(file.relative_to(run)): sha256_of(file)
            for file in sorted(run.rglob("*"))
            if file.is_file() and file.name not in CHANGING and "logs" not in file.parts
        }
        for run in (one, other)
    ]
    assert found[0], "an empty run"
    assert found[0] == found[1]
    return True


@dataclass(frozen=True)
class Squaring:
    """Squares numbers; also stands for a model."""

    device: str = "cpu"

    def __call__(self, item: int) -> int:
        return item * item


@dataclass(frozen=True)
class Thirsty:
    """Runs out of memory above so many rows."""

    batch_size: int
    most: int

    def __call__(self, item: int) -> int:
        if self.batch_size > self.most:
            raise RuntimeError("CUDA out of memory")
        return self.batch_size


@dataclass(frozen=True)
class Dying:
    """Its process dies under item 0, so many times."""

    marks: str
    deaths: int

    def __call__(self, item: int) -> int:
        folder = Path(self.marks)
        folder.mkdir(exist_ok=True)
        if item == 0 and len(list(folder.iterdir())) < self.deaths:
            (folder / str(os.getpid())).touch()
            os.kill(os.getpid(), 9)
        return item


@dataclass(frozen=True)
class DyingLater:
    """Loads a model in the first process that comes; every later one dies."""

    marks: str

    def __call__(self) -> Squaring:
        folder = Path(self.marks)
        folder.mkdir(exist_ok=True)
        try:
            (folder / "first").touch(exist_ok=False)
        except FileExistsError:
            (folder / str(os.getpid())).touch()
            os.kill(os.getpid(), 9)
        return Squaring()


@dataclass(frozen=True)
class Awaiting:
    """Waits until a folder holds so many files; gives how many it holds."""

    marks: str
    n_files: int

    def __call__(self, item: int) -> int:
        end = time.monotonic() + 120
        while len(os.listdir(self.marks)) < self.n_files and time.monotonic() < end:
            time.sleep(0.05)
        return len(os.listdir(self.marks))


class Elsewhere(Worker):
    """A worker on a node where another torch is installed."""

    def ready(self, packages: Sequence[str] = ()) -> Outcome:
        about = super().ready(packages).result
        versions = {**about["versions"], "torch": "0.4.1"}
        return Outcome({**about, "versions": versions, "device": "another"})


if __name__ == "__main__":
    kind, out, *how = sys.argv[1:]
    if how == ["ray"]:
        execute(small_job(kind, engine={"kind": "ray", "workers": 2}), out)
    else:
        execute(small_job(kind), out, join=True)
