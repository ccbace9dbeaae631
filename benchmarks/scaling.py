"""Two workers against one, and what Ray costs where one worker would do.

- `ratio_answers`: wall time of units of answers under interventions with one Ray worker / with two.
- `ratio_attribution`: the same of prompts attributed to all hidden neurons.
- `overhead`: wall time with one Ray worker / in this process, minus 1; the larger of the two kinds.
- `ceiling_answers`, `ceiling_attribution`: wall time in this process / in two processes that each
  do half of it and know of nobody: what the machine itself gains by a second core. No engine can
  gain more.

Atlas, one thread per worker, so that two workers need two idle cores. All contestants are alive
from the beginning and take turns, there and back, each with the same items: a machine that grows
slower or faster within minutes favours nobody. Ratios are medians over the turns, with lowest and
highest; `total_…` are ratios of the sums over all turns. Workers are started before the clock is.
Results of all are compared, number by number.

    python benchmarks/scaling.py             five minutes of work of each kind, about half an hour
    python benchmarks/scaling.py --minutes .2 --turns 2
"""

from __future__ import annotations

# isort: off
from timing import Timing, print_result, print_table, ratio

# isort: on
import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from broca.attributions import attribute_answer_tokens
from broca.engines import Engine, EngineSettings, LocalEngine, RayEngine
from broca.engines.cluster import ray_itself
from broca.facts import load_relations
from broca.interventions import Deactivate
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, uniform_random
from broca.prompts import Prompt, render_fact_prompts
from broca.run.bench import Asking, Unit

PROMPTS, EDITS, ATTRIBUTED = 16, 12, 4  # of one item
CONTESTANTS = ("this process", "one worker", "two workers", "two processes")
KINDS = ("answers", "attribution")


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


def work_of(model: LanguageModel) -> dict[str, Any]:
    return {"answers": Answering(model), "attribution": Attributing(model)}


def makers(model: LanguageModel) -> dict[str, Callable[[int], Sequence[Any]]]:
    """By kind of work, so many items of it."""
    prompts = render_fact_prompts(load_relations("atlas"), form="question", seed=0)
    index = NeuronIndex(model.identity, ("gate", "up"))
    changes = {str(n): Deactivate(uniform_random(index, 200, n)) for n in range(EDITS)}

    def units(n: int) -> list[Unit]:
        return [Unit(some, changes, {}, " ") for some in portions(prompts, n, PROMPTS)]

    return {"answers": units, "attribution": lambda n: portions(prompts, n, ATTRIBUTED)}


def portions(prompts: Sequence[Prompt], n: int, size: int) -> list[tuple[Prompt, ...]]:
    """Portions of prompts in turn, from the first again where they are at an end."""
    starts = [(number * size) % (len(prompts) - size) for number in range(n)]
    return [tuple(prompts[start : start + size]) for start in starts]


class Apart:
    """Two processes that each do every second item and know of nobody."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pools = [spawn.Pool(1, _load_here) for _ in range(2)]

    def __call__(self, kind: str, items: Sequence[Any]) -> list[Any]:
        started = [
            pool.apply_async(_half, (kind, items[number::2]))
            for number, pool in enumerate(self.pools)
        ]
        halves = [one.get() for one in started]
        return [halves[number % 2][number // 2] for number in range(len(items))]

    def close(self) -> None:
        for pool in self.pools:
            pool.close()
            pool.join()


_here: dict[str, Any] = {}


def _load_here() -> None:
    torch.set_num_threads(1)
    _here.update(work_of(load()))


def _half(kind: str, items: Sequence[Any]) -> list[Any]:
    return [result for _, result in LocalEngine().map(_here[kind], list(enumerate(items)))]


def by_engine(engine: Engine, work: Any) -> Callable[[str, Sequence[Any]], list[Any]]:
    """What does items of a kind, and returns their results in the order of the items."""

    def do(kind: str, items: Sequence[Any]) -> list[Any]:
        numbered = list(enumerate(items))
        found = {number: result for (number, _), result in engine.map(work[kind], numbered)}
        return [found[number] for number in range(len(items))]

    return do


def timed(do: Callable[..., list[Any]], kind: str, items: Sequence[Any]) -> tuple[float, list[Any]]:
    """Seconds of wall time, and results."""
    start = time.perf_counter()
    results = do(kind, items)
    return time.perf_counter() - start, results


def contestants(work: Any, stack: ExitStack) -> dict[str, Callable[..., list[Any]]]:
    """All alive, in the order of their names; closed with the stack."""
    os.environ.setdefault("RAY_worker_niceness", "0")  # as the engine does where it starts Ray
    ray = ray_itself()
    cores = 3  # those of one worker and those of two: they are there at once, never busy at once
    ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    stack.callback(ray.shutdown)
    apart = Apart()
    stack.callback(apart.close)
    engines: list[Engine] = [LocalEngine()]
    for n_workers in (1, 2):
        engine = RayEngine(load, EngineSettings(kind="ray", workers=n_workers))
        stack.callback(engine.close)
        engines.append(engine)
    return dict(zip(CONTESTANTS, (*(by_engine(one, work) for one in engines), apart), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="of work, of each kind")
    parser.add_argument("--turns", type=int, default=20, help="in which that work is done")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load()
    make = makers(model)
    seconds: dict[tuple[str, str], list[float]] = {(k, n): [] for k in KINDS for n in CONTESTANTS}
    with ExitStack() as stack:
        all_of_them = contestants(work_of(model), stack)
        items, expected = {}, {}
        for kind in KINDS:
            for do in all_of_them.values():
                timed(do, kind, make[kind](4))  # what is checked once per model, in each process
            each = timed(all_of_them["this process"], kind, make[kind](8))[0] / 8
            n_pairs = max(2, round(options.minutes * 60 / options.turns / each / 2))
            items[kind] = make[kind](2 * n_pairs)
        for turn in range(options.turns):
            for name, do in list(all_of_them.items())[:: -1 if turn % 2 else 1]:
                for kind in KINDS:
                    took, found = timed(do, kind, items[kind])
                    seconds[kind, name].append(took)
                    print(f"{kind}, {name}, turn {turn + 1}: {took:.1f} s", file=sys.stderr)
                    if expected.setdefault(kind, found) != found:
                        raise SystemExit(f"{kind}: {name} gives other numbers than before")
    _print(seconds, {kind: len(some) for kind, some in items.items()}, options.minutes)


def _print(
    seconds: dict[tuple[str, str], list[float]], n_items: dict[str, int], minutes: float
) -> None:
    measured = {one: Timing(tuple(times)) for one, times in seconds.items()}
    rows, result, overheads = [], {}, []
    for kind, n in n_items.items():
        here, one, two, apart = (measured[kind, name] for name in CONTESTANTS)
        gain, ceiling, cost = ratio(one, two), ratio(here, apart), ratio(one, here)
        result[f"ratio_{kind}"] = round(gain["median"], 3)
        result[f"total_{kind}"] = round(sum(one.seconds) / sum(two.seconds), 3)
        result[f"ceiling_{kind}"] = round(ceiling["median"], 3)
        overheads.append(cost["median"] - 1)
        spread = (
            f"{r['median']:.2f} [{r['low']:.2f}, {r['high']:.2f}]" for r in (gain, ceiling, cost)
        )
        rows.append((kind, n, *(f"{t.median:.1f}" for t in (here, one, two, apart)), *spread))
    header = ("kind", "items a turn", *(f"{name}, s" for name in CONTESTANTS))
    print_table((*header, "one / two", "here / two processes", "one / here"), rows)
    print_result(result | {"overhead": round(max(overheads), 4), "minutes": minutes})


if __name__ == "__main__":
    main()
