"""Does a locator find the value vectors into which a fact was put (INJ)?

Claim (arXiv 2311.09060): learned masks find them best, integrated gradients and zero-out less,
activations hardly, all better than chance.

1. A share of all value vectors is drawn at random; only these are trained on one new fact until it
   is known. Facts and draws differ from seed to seed.
2. Every locator is asked about the fact in the edited model.
3. Recall: share of these neurons among the locator's first 1, 2, 5 %, of each layer and of all.
4. Means over facts with intervals; paired with the reference over the same facts.

Masks act at every position and have a strength in place of a budget, as published. Facts that did
not become known are left out and counted. What masks are learned for, where they act, and their
strength were chosen on other facts (numbers from 100 on).

Source: arXiv 2311.09060, section 3.1.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from broca.errors import StudyError
from broca.studies.locators.invented import invented_facts, material_of
from broca.studies.locators.material import KeepingBench, Material
from broca.studies.locators.published import RECALL
from broca.studies.locators.tables import compared, flat_figures, told, winners
from broca.studies.locators.truths import judge_injected
from broca.studies.study import Findings, Plan, Results

ORDER = ("hard-concrete", "slimming", "ig", "exact", "activation", "random")
KINDS = ("layer", "global")


class InjectionStudy:
    """See the module."""

    name = "locators.injection"

    def plan(self, material: Material, bench: KeepingBench) -> Plan:
        config = material.config
        facts = invented_facts(
            config.n_injected, relations=material_of(config.facts), seed=config.seed
        )
        settings = asdict(config)
        items = [
            ({"settings": settings, "prompt": [p.id, p.text, number]}, (p, number))
            for number, p in enumerate(facts)
        ]
        units = bench.keep(
            "injected", lambda model, item: judge_injected(model, material, *item), items
        )
        return Plan({}, extra={"units": units})

    def summarise(self, material: Material, results: Results) -> Findings:
        config = material.config
        known = [unit for unit in results.extra["units"] if unit["known"]]
        left_out = len(results.extra["units"]) - len(known)
        if not known:
            raise StudyError("no injected fact became known", f"{left_out} facts")
        reads = recall_reads(config.recall_shares)
        records = compared(known, config, reads)
        best = {name: winners(known, config, read) for name, read in reads.items()}
        for record in records:
            record |= {f"{name}_wins": record["locator"] in best[name] for name in reads}
            for model, table in RECALL.items():
                record[f"published {model}"] = (table.get(record["locator"]) or (None,))[0]
        return Findings(
            figures={
                **flat_figures(self.name, records, tuple(reads)),
                **{
                    f"{self.name}.{r['locator']}.{name}_{part}": float(r[f"{name}_{part}"])
                    for r in records
                    for name in ("layer_0", "global_0")
                    for part in ("gap", "gap_low", "gap_high")
                },
                f"{self.name}.facts": len(known),
                f"{self.name}.left_out": left_out,
            },
            tables={
                "locators": records,
                "facts": [
                    {k: unit[k] for k in ("text", "loss_before", "loss", "n_steps", "known")}
                    for unit in results.extra["units"]
                ],
                "curves": recall_curves(records, config.recall_shares),
            },
            words=_words(records, config.recall_shares[0], config.reference, len(known), left_out),
        )


def recall_reads(shares: tuple[float, ...]) -> dict[str, Any]:
    """Figure -> reads it: `layer_0` is recall per layer at the first share."""
    return {
        f"{kind}_{n}": (lambda one, kind=kind, n=n: one[kind][n])
        for kind in KINDS
        for n in range(len(shares))
    }


def recall_curves(records: list[dict[str, Any]], shares: tuple[float, ...]) -> list[dict[str, Any]]:
    """Recall over the share looked at, a record per locator, kind and share."""
    return [
        {
            "locator": record["locator"],
            "title": record["title"],
            "kind": kind,
            "share": share,
            "value": record[f"{kind}_{n}"],
            "low": record[f"{kind}_{n}_low"],
            "high": record[f"{kind}_{n}_high"],
        }
        for record in records
        for kind in KINDS
        for n, share in enumerate(shares)
    ]


def _words(
    records: list[dict[str, Any]], share: float, reference: str, n: int, left_out: int
) -> list[str]:
    by_name = {record["locator"]: record for record in records}
    words = []
    for kind, where in (("layer", "of every layer"), ("global", "of all neurons")):
        key = f"{kind}_0"
        listed = [by_name[name] for name in ORDER if name in by_name]
        listed.sort(key=lambda r: -r[key])
        shown = ", ".join(f"{r['title']} {told(r, key)}" for r in listed)
        words.append(f"Recall among the first {share:.1%} {where}, {n} injected facts: {shown}.")
        for name in ("hard-concrete", "slimming"):
            if name in by_name and name != reference:
                words.append(_gap(by_name[name], by_name[reference], key, where))
    if left_out:
        words.append(f"{left_out} facts did not become known and are left out.")
    return words


def _gap(record: dict[str, Any], reference: dict[str, Any], key: str, where: str) -> str:
    gap, low, high = (record[f"{key}_gap{end}"] for end in ("", "_low", "_high"))
    verdict = "more" if low > 0 else "less" if high < 0 else "not to be told apart"
    beside = "" if verdict == "not to be told apart" else f" {verdict}"
    return (
        f"{record['title'].capitalize()} against {reference['title']}, first {where}: paired "
        f"difference {gap:+.3f} [{low:+.3f}, {high:+.3f}]: "
        f"{'finds' + beside if beside else verdict}."
    )


STUDIES = (InjectionStudy(),)
