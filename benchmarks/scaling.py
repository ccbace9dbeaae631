"""Two workers against one, and what Ray costs where one worker would do.

- `ratio_answers`: wall time of units of answers under interventions with one Ray worker / with two.
- `ratio_attribution`: the same of prompts attributed to all hidden neurons.
- `overhead`: wall time with one Ray worker / in this process, minus 1; the larger of the two kinds.

Atlas, one thread per worker, so that two workers need two idle cores. In every run the three take
turns, with as many items as fill their share of `--minutes` in this process, by a first one that
is timed; ratios are medians over the runs, with lowest and highest. Workers are started before the
clock is: `start_seconds` says how long that took. Results of all three are compared, number by
number.

    python benchmarks/scaling.py             five minutes of work of each kind, about 27 minutes
    python benchmarks/scaling.py --minutes .2 --runs 1
"""

from __future__ import annotations

# isort: off
from timing import Timing, print_result, print_table, ratio

# isort: on
import argparse
import statistics
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
ENGINES = {"this process": 0, "one worker": 1, "two workers": 2}  # workers of Ray


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
    parser.add_argument("--runs", type=int, default=5, help="in which that work is done")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load()
    prompts = render_fact_prompts(load_relations("atlas"), form="question", seed=0)
    kinds = {
        "answers": (Answering(model), units(model, prompts)),
        "attribution": (Attributing(model), lambda n: portions(prompts, n, ATTRIBUTED)),
    }
    items = {}
    for kind, (work, make) in kinds.items():
        timed(LocalEngine(), work, make(1))  # what is checked once per model
        each = timed(LocalEngine(), work, make(4))[0] / 4
        items[kind] = make(2 * max(2, round(options.minutes * 60 / options.runs / each / 2)))
    seconds: dict[tuple[str, str], list[float]] = {(k, n): [] for k in kinds for n in ENGINES}
    results: dict[tuple[str, str], list[Any]] = {}
    starts = []
    for run in range(1, options.runs + 1):
        # there and back, so that a machine that grows slower or faster favours nobody
        for name, n_workers in list(ENGINES.items())[:: 1 if run % 2 else -1]:
            start = time.perf_counter()
            engine = _engine(n_workers)
            try:
                for work, make in kinds.values():
                    timed(engine, work, make(2 * max(1, n_workers)))
                starts += [time.perf_counter() - start] if n_workers == 1 else []
                for kind, (work, _) in kinds.items():
                    took, found = timed(engine, work, items[kind])
                    seconds[kind, name].append(took)
                    print(f"{kind}, {name}, run {run}: {took:.1f} s", file=sys.stderr)
                    if results.setdefault((kind, name), found) != found:
                        raise SystemExit(f"{kind}, {name}: other numbers than in the first run")
            finally:
                if isinstance(engine, RayEngine):
                    engine.close()
    for kind in kinds:
        if any(results[kind, name] != results[kind, "this process"] for name in ENGINES):
            raise SystemExit(f"{kind}: workers give other numbers than this process")
    _print(seconds, {kind: len(some) for kind, some in items.items()}, starts, options.minutes)


def _print(
    seconds: dict[tuple[str, str], list[float]],
    n_items: dict[str, int],
    starts: list[float],
    minutes: float,
) -> None:
    measured = {one: Timing(tuple(times)) for one, times in seconds.items()}
    rows, result, overheads = [], {}, []
    for kind, n in n_items.items():
        alone, one, two = (measured[kind, name] for name in ENGINES)
        gain, cost = ratio(one, two), ratio(one, alone)
        result[f"ratio_{kind}"] = round(gain["median"], 3)
        overheads.append(cost["median"] - 1)
        spread = (f"{r['median']:.2f} [{r['low']:.2f}, {r['high']:.2f}]" for r in (gain, cost))
        rows.append((kind, n, *(f"{t.median:.1f}" for t in (alone, one, two)), *spread))
    header = ("kind", "items a run", *(f"{name}, s" for name in ENGINES), "one / two", "one / none")
    print_table(header, rows)
    print_result(
        result
        | {
            "overhead": round(max(overheads), 4),
            "start_seconds": round(statistics.median(starts), 1),
            "minutes": minutes,
        }
    )


def _engine(n_workers: int) -> Engine:
    if not n_workers:
        return LocalEngine()
    return RayEngine(load, EngineSettings(kind="ray", workers=n_workers))


if __name__ == "__main__":
    main()
