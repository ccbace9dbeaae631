"""Two workers against one, and what Ray costs where one worker would do.

- `ratio_answers`: wall time of units of answers under interventions with one Ray worker / with two.
- `ratio_attribution`: the same of prompts attributed to all hidden neurons.
- `overhead`: wall time with one Ray worker / in this process, minus 1; the larger of the two kinds.

Atlas, one thread per worker, so that two workers need two idle cores. Workers are started before
the clock is: `start_seconds` says how long that took. As many items as fill `--minutes` in this
process, by a first one that is timed. Results of all three are compared, number by number.

    python benchmarks/scaling.py             five minutes of work of each kind, about 25 minutes
    python benchmarks/scaling.py --minutes .2
"""

from __future__ import annotations

# isort: off
from timing import print_result, print_table

# isort: on
import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from broca.attributions import attribute_answer_tokens
from broca.engines import Engine, EngineSettings, LocalEngine, RayEngine
from broca.facts import load_relations
from broca.interventions import Deactivate
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, uniform_random
from broca.prompts import Prompt, render_fact_prompts
from broca.run.bench import Asking, Unit

PROMPTS, EDITS, ATTRIBUTED = 32, 12, 4  # of one item


@dataclass(frozen=True)
class Answering:
    """Answers to some prompts under some interventions: log P of each."""

    model: Any

    def __call__(self, item: tuple[int, Unit]) -> list[float]:
        return [row.log_p for row in Asking(self.model, 64)(item[1])]


@dataclass(frozen=True)
class Attributing:
    """Attributions of some prompts' answers, summed up: [prompt]."""

    model: Any

    def __call__(self, item: tuple[int, Sequence[Prompt]]) -> list[float]:
        found = attribute_answer_tokens(self.model, item[1], method="gauss-legendre", n_steps=8)
        return [float(np.abs(one.values).sum()) for one in found]


def load() -> LanguageModel:
    return LanguageModel.from_pretrained("atlas")


def units(model: LanguageModel, prompts: Sequence[Prompt]) -> Callable[[int], list[Unit]]:
    index = NeuronIndex(model.identity, ("gate", "up"))
    changes = {str(n): Deactivate(uniform_random(index, 200, n)) for n in range(EDITS)}

    def make(n: int) -> list[Unit]:
        return [Unit(some, changes, {}, " ") for some in portions(prompts, n, PROMPTS)]

    return make


def portions(prompts: Sequence[Prompt], n: int, size: int) -> list[tuple[Prompt, ...]]:
    """Portions of prompts in turn, from the first again where they are at an end."""
    starts = [(number * size) % (len(prompts) - size) for number in range(n)]
    return [tuple(prompts[start : start + size]) for start in starts]


def timed(engine: Engine, work: Any, items: Sequence[Any]) -> tuple[float, list[Any]]:
    """Seconds of wall time, and results in the order of the items."""
    start = time.perf_counter()
    numbered = list(enumerate(items))
    found = {number: result for (number, _), result in engine.map(work, numbered)}
    seconds = time.perf_counter() - start
    return seconds, [found[number] for number in range(len(items))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="of work, of each kind")
    minutes = parser.parse_args().minutes
    torch.set_num_threads(1)
    model = load()
    prompts = render_fact_prompts(load_relations("atlas"), form="question", seed=0)
    kinds = {
        "answers": (Answering(model), units(model, prompts)),
        "attribution": (Attributing(model), lambda n: portions(prompts, n, ATTRIBUTED)),
    }
    ratios, overheads, starts, rows = {}, [], {}, []
    items = {}
    for kind, (work, make) in kinds.items():
        timed(LocalEngine(), work, make(1))  # what is checked once per model
        each, _ = timed(LocalEngine(), work, make(2))
        items[kind] = make(max(4, 2 * round(minutes * 60 / each)))
    seconds: dict[tuple[str, str], float] = {}
    results: dict[tuple[str, str], list[Any]] = {}
    for name, n_workers in (("this process", 0), ("one worker", 1), ("two workers", 2)):
        start = time.perf_counter()
        engine = _engine(n_workers)
        try:
            for work, make in kinds.values():
                timed(engine, work, make(2 * max(1, n_workers)))
            starts[name] = time.perf_counter() - start
            for kind, (work, _) in kinds.items():
                seconds[kind, name], results[kind, name] = timed(engine, work, items[kind])
                print(f"{kind}, {name}: {seconds[kind, name]:.1f} s", file=sys.stderr)
        finally:
            if isinstance(engine, RayEngine):
                engine.close()
    for kind in kinds:
        alone, one, two = (seconds[kind, n] for n in ("this process", "one worker", "two workers"))
        if not results[kind, "this process"] == results[kind, "one worker"]:
            raise SystemExit(f"{kind}: a worker gives other numbers than this process")
        if not results[kind, "one worker"] == results[kind, "two workers"]:
            raise SystemExit(f"{kind}: two workers give other numbers than one")
        ratios[f"ratio_{kind}"] = one / two
        overheads.append(one / alone - 1)
        rows.append((kind, len(items[kind]), *(f"{s:.1f}" for s in (alone, one, two))))
    print_table(("kind", "items", "this process, s", "one worker, s", "two workers, s"), rows)
    print_result(
        {
            **{name: round(value, 3) for name, value in ratios.items()},
            "overhead": round(max(overheads), 4),
            "start_seconds": round(starts["one worker"], 1),
            "minutes": minutes,
        }
    )


def _engine(n_workers: int) -> Engine:
    if not n_workers:
        return LocalEngine()
    return RayEngine(load, EngineSettings(kind="ray", workers=n_workers))


if __name__ == "__main__":
    main()
