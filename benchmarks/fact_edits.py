"""Facts replaced in the weights, over all relations: success, generalisation, locality, fluency.

Each fact is edited alone, with its own neurons and with as many random ones of the same layers.
Settings were chosen on other facts: ``--choose`` prints the grid on the first facts of the seed,
which the judged ones leave out. With ``--keep``, finished cases are kept in a file and an
interrupted run goes on. Last line: one JSON object.

    python benchmarks/fact_edits.py --model atlas --facts 100 --keep edits.jsonl
    python benchmarks/fact_edits.py --choose
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path

import timing  # fixes the threads, so it comes first

# isort: split
import torch

from broca.edits import FactEditConfig
from broca.estimates import Estimate
from broca.facts import load_relations
from broca.model import LanguageModel
from broca.progress import track
from broca.studies.editing import (
    FIGURES,
    OWN,
    RANDOM,
    STAYS,
    TAKES,
    EditCase,
    EditOutcome,
    World,
    draw_cases,
    judge_edits,
    summarise_edits,
)

N_CHOOSING = 12
LANGUAGES = ("de", "es", "fr", "zh", "ja")
GRID = {
    "n_neurons": (16, 48),
    "locality": (1.0, 4.0),
}


def load_world(n_prose: int = 30) -> World:
    """The embedded facts in all languages, and some of the embedded prose."""
    lines = (files("broca") / "atlas" / "prose.jsonl").read_text("utf-8").splitlines()
    english = [row["text"] for row in map(json.loads, lines) if row["language"] == "en"]
    step = max(1, len(english) // n_prose)
    return World(
        load_relations("atlas"),
        {language: load_relations("atlas", language=language) for language in LANGUAGES},
        english[::step][:n_prose],
    )


def balance(summary: Mapping[str, Estimate]) -> float:
    """What settings are chosen by: harmonic mean of what should change and what should stay.

    Success and each generalisation count equally, and so does each locality.
    """
    takes = [summary[name].value for name in TAKES if name in summary]
    stays = [summary[name].value for name in STAYS if name in summary]
    a, b = sum(takes) / len(takes), sum(stays) / len(stays)
    return 2 * a * b / max(a + b, 1e-12)


def choose(
    model: LanguageModel, cases: Sequence[EditCase], world: World, keep: Path | None
) -> FactEditConfig:
    """The settings of the grid with the best balance on these cases."""
    rows, best = [], (-1.0, FactEditConfig())
    for values in itertools.product(*GRID.values()):
        config = replace(FactEditConfig(), **dict(zip(GRID, values, strict=True)))
        found = summarise_edits(judge_all(model, cases, world, config, keep, (OWN,)))[OWN]
        score = balance(found)
        shown = [f"{found[name].value:.3f}" if name in found else "–" for name in FIGURES]
        rows.append([*values, f"{score:.3f}", *shown])
        print(*rows[-1], file=sys.stderr, flush=True)
        best = max(best, (score, config), key=lambda pair: pair[0])
    timing.print_table([*GRID, "balance", *FIGURES], rows)
    return best[1]


def judge_all(
    model: LanguageModel,
    cases: Sequence[EditCase],
    world: World,
    config: FactEditConfig,
    keep: Path | None,
    kinds: Sequence[str] = (OWN, RANDOM),
) -> list[EditOutcome]:
    """Outcomes of all cases; those that a file keeps under the same settings are not made again."""
    key = json.dumps([model.identity.fingerprint, asdict(config)])
    lines = keep.read_text("utf-8").splitlines() if keep and keep.exists() else []
    kept: dict[str, dict[str, Mapping[str, float]]] = {}
    for line in map(json.loads, lines):
        if line["key"] == key:
            kept.setdefault(line["case"], {})[line["neurons"]] = line["figures"]
    outcomes = []
    for case in track(cases, "Editing facts"):
        name = f"{case.fact.id} -> {case.new_object}"
        known = kept.get(name, {})
        found = [EditOutcome(case, kind, known[kind]) for kind in kinds if kind in known]
        if len(found) < len(kinds):
            found = list(judge_edits(model, [case], world, config, kinds=kinds))
            rows = [
                {"key": key, "case": name, "neurons": o.neurons, "figures": dict(o.figures)}
                for o in found
            ]
            if keep:
                with keep.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
        outcomes += found
    return outcomes


def main() -> None:
    """Edit, judge, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="atlas")
    parser.add_argument("--facts", type=int, default=100, help="facts to replace")
    parser.add_argument("--choose", action="store_true", help="choose settings on other facts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="file of finished cases, one per line")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, world = LanguageModel.from_pretrained(options.model), load_world()
    start = time.process_time()
    if options.choose:
        cases = draw_cases(model, world.relations, N_CHOOSING, seed=options.seed)
        best = choose(model, cases, world, options.keep)
        timing.print_result({"chosen": asdict(best), "cpu_seconds": time.process_time() - start})
        return
    cases = draw_cases(model, world.relations, options.facts, seed=options.seed, skip=N_CHOOSING)
    config = FactEditConfig()
    outcomes = judge_all(model, cases, world, config, options.keep)
    summary = summarise_edits(outcomes)
    kinds = list(summary)
    timing.print_table(
        ["figure", *kinds],
        [[name, *(str(summary[k].get(name, "–")) for k in kinds)] for name in FIGURES],
    )
    result = {
        f"{kind.split()[0]}.{name}": [round(x, 4) for x in (e.value, e.low, e.high)]
        for kind, found in summary.items()
        for name, e in found.items()
    }
    about = {"facts": len(cases), "relations": len({case.fact.relation for case in cases})}
    seconds = round(time.process_time() - start, 1)
    timing.print_result({**about, **result, "config": asdict(config), "cpu_seconds": seconds})


if __name__ == "__main__":
    main()
