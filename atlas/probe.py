"""Are there relation neurons in the embedded model? Found and measured as METHODS' paper B does.

    python -m atlas.probe CHECKPOINT [CHECKPOINT ...] [--write]

1. Subjects are split globally: 50 evaluation facts per relation, all facts of other subjects
   detection.
2. A neuron's response is its mean over a prompt's tokens (gate, up, down projections). Its score
   for a relation is the average precision of the responses on detection prompts that are answered
   rightly, positives against four times as many negatives of the other relations.
3. k is the same for all relations and chosen on detection facts alone: found on one half of the
   detection subjects, switched off on the other half.
4. On evaluation facts: accuracy with the top k of a relation at 0, for that relation and for the
   others, and with random sets of the same size per site and layer, drawn outside the set.

Intervals are bootstraps over facts; p is a sign-flip test of (right with own set off − mean right
over the random sets), Holm's correction over relations.
"""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from atlas.build_facts import SHIPPED
from atlas.card import update_card
from atlas.corpus import read_lines
from atlas.measure import Plain, ask_facts, prompts_of
from atlas.wordings import read_wordings

SITES = ("gate_proj", "up_proj", "down_proj")
SHARES = (0.01, 0.02, 0.04, 0.08, 0.12)  # of all neurons, from which k is chosen
N_EVALUATION = 50
N_RANDOM = 5


@dataclass
class Split:
    detection: list[dict]
    evaluation: list[dict]


def split_subjects(facts: list[dict], count: int, seed: int) -> Split:
    """`count` evaluation facts per relation; no subject is on both sides."""
    rng = random.Random(seed)
    by_subject: dict[str, list[dict]] = {}
    for fact in facts:
        by_subject.setdefault(fact["subject"], []).append(fact)
    subjects = sorted(by_subject)
    rng.shuffle(subjects)
    taken: dict[str, int] = dict.fromkeys((f["relation"] for f in facts), 0)
    evaluation, detection = [], []
    for subject in subjects:
        members = by_subject[subject]
        if any(taken[f["relation"]] < count for f in members):
            for fact in members:
                if taken[fact["relation"]] < count:
                    taken[fact["relation"]] += 1
                    evaluation.append(fact)
        else:
            detection += members
    return Split(detection, evaluation)


class Probe:
    """The neurons of a model: recorded, and switched off by a mask."""

    def __init__(self, plain: Plain) -> None:
        self.plain = plain
        self.modules = [
            getattr(layer.mlp, site) for layer in plain.model.model.layers for site in SITES
        ]
        self.widths = [module.out_features for module in self.modules]
        self.starts = np.cumsum([0, *self.widths])
        self.size = int(self.starts[-1])
        self.group = np.repeat(np.arange(len(self.widths)), self.widths)  # layer and site

    @contextmanager
    def off(self, neurons: np.ndarray) -> Iterator[None]:
        keep = torch.ones(self.size)
        keep[torch.from_numpy(neurons)] = 0
        parts = keep.split(self.widths)
        handles = [
            module.register_forward_hook(lambda _m, _i, out, part=part: out * part)
            for module, part in zip(self.modules, parts, strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def responses(self, prompts: Sequence[str]) -> np.ndarray:
        """[prompt, neuron]: means over the prompt's tokens, the first one included."""
        seen: dict[int, Tensor] = {}
        handles = [
            module.register_forward_hook(lambda _m, _i, out, n=n: seen.__setitem__(n, out))
            for n, module in enumerate(self.modules)
        ]
        result = np.zeros((len(prompts), self.size), np.float32)
        try:
            for row, prompt in enumerate(prompts):
                ids = torch.tensor([self.plain.encode(prompt, start=True)])
                self.plain.model.model(ids)
                means = [seen[n][0].mean(0) for n in range(len(self.modules))]
                result[row] = torch.cat(means).numpy()
        finally:
            for handle in handles:
                handle.remove()
        return result

    def matched(self, neurons: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """As many random neurons per layer and site, none of the set itself."""
        drawn = []
        for group, start in enumerate(self.starts[:-1]):
            inside = neurons[self.group[neurons] == group]
            others = np.setdiff1d(np.arange(start, start + self.widths[group]), inside)
            drawn.append(rng.choice(others, min(len(inside), len(others)), replace=False))
        return np.concatenate(drawn)


def average_precision(responses: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For every neuron (column); ties are broken by order, which single floats hardly need."""
    order = np.argsort(-responses, axis=0, kind="stable")
    hits = labels[order]
    precision = np.cumsum(hits, 0) / np.arange(1, len(labels) + 1)[:, None]
    return (hits * precision).sum(0) / labels.sum()


def find(
    responses: np.ndarray, relations: np.ndarray, names: list[str], rng: np.random.Generator
) -> np.ndarray:
    """[relation, rank]: neurons by falling average precision."""
    ranked = []
    for name in names:
        positive = np.flatnonzero(relations == name)
        negative = np.flatnonzero(relations != name)
        count = min(4 * len(positive), len(negative))
        rows = np.r_[positive, rng.choice(negative, count, replace=False)]
        scores = average_precision(responses[rows], relations[rows] == name)
        ranked.append(np.argsort(-scores, kind="stable"))
    return np.array(ranked)


class Asked:
    """Facts with their prompts; `right()` asks them all under whatever is switched off."""

    def __init__(self, probe: Probe, facts: list[dict], seed: int) -> None:
        self.probe, self.facts = probe, facts
        wordings = read_wordings(SHIPPED)
        self.prompts = prompts_of(facts, wordings, "finding", random.Random(f"probe {seed}"))
        self.relations = np.array([fact["relation"] for fact in facts])

    def right(self, rows: np.ndarray | None = None) -> np.ndarray:
        rows = np.arange(len(self.prompts)) if rows is None else rows
        answers = ask_facts(self.probe.plain, [self.prompts[i] for i in rows])
        return np.array([a.right for a in answers], float)

    def right_without(self, neurons: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        with self.probe.off(neurons):
            return self.right(rows)


def drops(asked: Asked, ranked: np.ndarray, names: list[str], k: int) -> tuple[np.ndarray, ...]:
    """Untouched [prompt], and [set, prompt] with each relation's top k off."""
    return asked.right(), np.array([asked.right_without(top[:k]) for top in ranked])


def own_and_other(
    base: np.ndarray, off: np.ndarray, relations: np.ndarray, names: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Relative drop of accuracy per set: of its own relation, and the mean of the others."""
    table = np.full((len(names), len(names)), np.nan)
    for i, name in enumerate(names):
        rows = relations == name
        if base[rows].mean() > 0:
            table[:, i] = 1 - off[:, rows].mean(1) / base[rows].mean()
    own = np.diag(table).copy()
    np.fill_diagonal(table, np.nan)
    return own, np.nanmean(table, axis=1)


def choose_share(probe: Probe, facts: list[dict], names: list[str], seed: int) -> float:
    """The share of neurons with the best median of own − 3 max(other, .01) on detection facts."""
    subjects = sorted({f["subject"] for f in facts})
    random.Random(seed).shuffle(subjects)
    first = set(subjects[: len(subjects) // 2])
    finding = Asked(probe, [f for f in facts if f["subject"] in first], seed)
    rest = [f for f in facts if f["subject"] not in first]
    random.Random(seed).shuffle(rest)
    counted: dict[str, int] = {}
    test = []
    for fact in rest:
        counted[fact["relation"]] = counted.get(fact["relation"], 0) + 1
        if counted[fact["relation"]] <= 30:
            test.append(fact)
    testing = Asked(probe, test, seed)
    ranked = rank(probe, finding, names, seed)
    best, best_score = SHARES[0], -np.inf
    for share in SHARES:
        base, off = drops(testing, ranked, names, int(share * probe.size))
        own, other = own_and_other(base, off, testing.relations, names)
        score = float(np.median(own) - 3 * np.median(np.maximum(other, 0.01)))
        print(f"  {share:.0%}: own {np.median(own):.3f} other {np.median(other):.3f}", flush=True)
        if score > best_score:
            best, best_score = share, score
    return best


def rank(probe: Probe, asked: Asked, names: list[str], seed: int) -> np.ndarray:
    right = asked.right() > 0
    prompts = [prompt for (prompt, _), r in zip(asked.prompts, right, strict=True) if r]
    responses = probe.responses(prompts)
    return find(responses, asked.relations[right], names, np.random.default_rng(seed))


def bootstrap(values: np.ndarray, rng: np.random.Generator, rounds: int = 2000) -> list[float]:
    """95 % interval of the mean of `values` (columns kept together if two-dimensional)."""
    rows = rng.integers(0, len(values), (rounds, len(values)))
    low, high = np.quantile(values[rows].mean(1), [0.025, 0.975])
    return [round(float(low), 3), round(float(high), 3)]


def sign_flip(differences: np.ndarray, rng: np.random.Generator, rounds: int = 5000) -> float:
    """One-sided p that the mean is below zero by chance."""
    signs = rng.choice([-1.0, 1.0], (rounds, len(differences)))
    flipped = (signs * differences).mean(1)
    return float((1 + (flipped <= differences.mean() + 1e-12).sum()) / (rounds + 1))


def holm(p_values: list[float]) -> list[float]:
    order = np.argsort(p_values)
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def probe_model(folder: Path, seed: int = 0) -> dict:
    plain = Plain.load(folder)
    probe = Probe(plain)
    wordings = read_wordings(SHIPPED)
    facts = read_lines(SHIPPED / "facts.jsonl")
    core = [f for f in facts if not wordings.relations[f["relation"]].companion]
    names = [name for name, r in wordings.relations.items() if not r.companion]
    split = split_subjects(core, N_EVALUATION, seed)
    share = choose_share(probe, split.detection, names, seed)
    k = int(share * probe.size)
    detection, evaluation = (
        Asked(probe, split.detection, seed),
        Asked(probe, split.evaluation, seed),
    )
    ranked = rank(probe, detection, names, seed)
    base, off = drops(evaluation, ranked, names, k)
    own, other = own_and_other(base, off, evaluation.relations, names)
    rng = np.random.default_rng(seed)
    relations: dict[str, dict] = {}
    for i, name in enumerate(names):
        rows = np.flatnonzero(evaluation.relations == name)
        draws = [
            evaluation.right_without(probe.matched(ranked[i, :k], rng), rows)
            for _ in range(N_RANDOM)
        ]
        matched, untouched = np.mean(draws, 0), base[rows]
        relations[name] = {
            "untouched": round(float(untouched.mean()), 3),
            "own_drop": round(float(own[i]), 3),
            "own_interval": bootstrap((untouched - off[i, rows]) / untouched.mean(), rng),
            "other_drop": round(float(other[i]), 3),
            "matched_drop": round(float(1 - matched.mean() / untouched.mean()), 3),
            "matched_interval": bootstrap((untouched - matched) / untouched.mean(), rng),
            "p": sign_flip(off[i, rows] - matched, rng),
        }
    adjusted = holm([entry["p"] for entry in relations.values()])
    for (name, entry), p in zip(relations.items(), adjusted, strict=True):
        entry["p_holm"] = round(p, 4)
        entry["p"] = round(entry["p"], 4)
        line = {key: value for key, value in entry.items() if key != "p"}
        print(f"  {name:26s} {line}", flush=True)
    return {
        "share": share,
        "k": k,
        "neurons": probe.size,
        "facts_detection": len(split.detection),
        "facts_evaluation": len(split.evaluation),
        **summarise(relations, rng),
        "relations": relations,
    }


def summarise(relations: dict[str, dict], rng: np.random.Generator) -> dict:
    """Medians over relations, intervals of their means, and how many are significant."""
    summary: dict = {}
    for key in ("own_drop", "other_drop", "matched_drop"):
        values = np.array([entry[key] for entry in relations.values()])
        summary[f"{key}_median"] = round(float(np.median(values)), 3)
        summary[f"{key}_interval"] = bootstrap(values, rng)
    floored = [max(entry["other_drop"], 0.01) for entry in relations.values()]
    summary["other_drop_median_floored"] = round(float(np.median(floored)), 3)
    summary["significant"] = sum(entry["p_holm"] < 0.05 for entry in relations.values())
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="*", default=[SHIPPED])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write card.json and CARD.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = {}
    for folder in options.checkpoints:
        print(folder, flush=True)
        results[folder.name] = probe_model(folder, options.seed)
        print(json.dumps({k: v for k, v in results[folder.name].items() if k != "relations"}))
    if options.write:
        update_card(SHIPPED, probe=results)


if __name__ == "__main__":
    main()
