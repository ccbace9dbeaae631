"""Replacement: what survives when neurons are not set to zero, but to what they could have said?

Claim tested: a relation's neurons matter, whatever is put in their place. Ours (METHODS §7); the
paper sets neurons to zero, which is far from anything the model knows at some of them.

1. Zero, the mean over detection prompts, and a resample (values from one prompt of another
   relation; `broca.studies.replacing`) are put in the place of the own set, of `n_matched` matched
   sets and of `n_active` sets matched by activity as well, on the same `n_null` facts; and in that
   of the own set on `n_other` facts of every other relation.
2. Loss in points of accuracy and in log P; the own set's rank among the random ones of each kind,
   corrected over relations by the maximum (`ranking.py`).
3. The same over relations, with intervals over them.
4. A conclusion survives a replacement where the rank is significant and the loss beyond the random
   sets surely above `smallest_points`, over facts; its name says which controls it survives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from broca.estimates import Estimate, bootstrap_mean, judge
from broca.studies.relations.figures import (
    by_prompt,
    finite,
    groups_with_spots,
    interval,
    mean,
    mean_estimate,
    means,
    other_groups,
)
from broca.studies.relations.material import Material, left_out
from broca.studies.relations.ranking import (
    ACTIVE,
    MATCHED,
    Ranked,
    lost_accuracy,
    lost_log_p,
    null_groups,
    plan_ranks,
    rank_sets,
    reachable,
)
from broca.studies.replacing import KINDS
from broca.studies.study import Bench, Findings, Plan, Results

NAN = float("nan")


class ReplacementStudy:
    """Zero, mean and resample in the place of own, matched and equally active neurons."""

    name = "relations.replacement"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """Every set under every replacement."""
        plan = material.plan({**groups_with_spots(material), **null_groups(material)})
        ranked = {k: plan_ranks(plan, material, material.replaced_by(k)) for k in KINDS}
        others = {
            (kind, name): plan.replace(
                material.sets[name], other_groups(material, name), material.replaced_by(kind)
            )
            for kind in KINDS
            for name in material.names
        }
        plan.extra = {"ranked": ranked, "others": others}
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """A record per replacement and relation, and one per replacement."""
        records = []
        for kind, ranked in results.extra["ranked"].items():
            ranks = {c: rank_sets(ranked, results, c) for c in (MATCHED, ACTIVE)}
            for name, one in ranked.items():
                found = {c: ranks[c].get(name) for c in ranks}
                others = results.extra["others"][kind, name]
                records.append(_record(material, results, kind, name, one, found, others))
        kinds = [_kind(material, records, kind) for kind in KINDS]
        figures: dict[str, float | int | None] = {
            f"replacement.{record['replacement']}.{key}": value
            for record in kinds
            for key, value in record.items()
            if key != "replacement" and not key.endswith("_verdict")
        }
        return Findings(
            figures=figures,
            tables={"left_out": left_out(material), "relations": records, "kinds": kinds},
            words=_words(kinds, len(material.names)),
        )


def _record(
    material: Material,
    results: Results,
    kind: str,
    name: str,
    ranked: Ranked,
    found: Mapping[str, Mapping[str, Any] | None],
    others: Sequence[Any],
) -> dict[str, Any]:
    config, own = material.config, results[ranked.own]
    record: dict[str, Any] = {
        "replacement": kind,
        "relation": name,
        "n": len(own),
        "before": own.accuracy_before,
        "own": lost_accuracy(own),
        "own_log_p": lost_log_p(own),
        "other": mean(lost_accuracy(results[condition]) for condition in others),
        "other_log_p": mean(lost_log_p(results[condition]) for condition in others),
    }
    possible = reachable(material, int(own.correct_before.sum()))
    for control, rank in found.items():
        if rank is None:
            record |= dict.fromkeys((control, f"{control}_log_p", f"{control}_p"), NAN)
            record[f"{control}_verdict"] = "cannot tell"
            continue
        kept = results[ranked.drawn[control]]
        spared = by_prompt(kept, kept.correct)
        beyond = bootstrap_mean(
            np.array([spared[prompt] for prompt in own.prompt]) - own.correct,
            seed=config.seed,
            n_resamples=config.n_resamples,
        )
        p = rank["accuracy_p"]
        verdict = judge(beyond, config.smallest_points, p=p, alpha=config.alpha, reachable=possible)
        record |= {
            control: rank["accuracy_sets"],
            f"{control}_log_p": rank["log_p_sets"],
            f"{control}_p": p,
            f"{control}_p_log_p": rank["log_p_p"],
            **interval(f"{control}_beyond", beyond),
            f"{control}_verdict": verdict,
        }
    return record


def _kind(material: Material, records: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Means over relations under one replacement, and how many survive it."""
    here = [record for record in records if record["replacement"] == kind]
    keys = ("own", "matched", "active", "other")
    over: dict[str, Any] = {}
    for key in (*keys, "matched_beyond", "active_beyond"):
        values = finite(record.get(key, NAN) for record in here)
        over |= interval(key, mean_estimate(values, material.config))
    logs = means(here, *(f"{key}_log_p" for key in keys))
    survive = {
        f"{control}_{verdict.replace(' ', '_')}": sum(
            record[f"{control}_verdict"] == verdict for record in here
        )
        for control in (MATCHED, ACTIVE)
        for verdict in ("yes", "cannot tell")
    }
    verdicts = {}
    for control in (MATCHED, ACTIVE):
        value, low, high = (over[f"{control}_beyond{end}"] for end in ("", "_low", "_high"))
        beyond = Estimate(value, low, high, len(here))
        verdicts[f"{control}_verdict"] = judge(beyond, material.config.smallest_points)
    counts = {"relations": len(here), "n": len(here)}
    return {"replacement": kind, **counts, **over, **logs, **survive, **verdicts}


def _words(kinds: Sequence[Mapping[str, Any]], n: int) -> list[str]:
    listed = "; ".join(
        f"{r['replacement']} {100 * r['own']:.0f} points (matched {100 * r['matched']:.0f}, as "
        f"active {100 * r['active']:.0f}, other relations {100 * r['other']:.0f})"
        for r in kinds
    )
    survive = ", ".join(
        f"{r['replacement']} {r['matched_yes']} and {r['active_yes']}" for r in kinds
    )
    return [
        f"Loss of accuracy by what is put in the neurons' place: {listed}.",
        f"Relations of {n} whose loss is surely large, beyond matched and beyond equally active "
        f"sets: {survive}.",
    ]


STUDIES = (ReplacementStudy(),)
