"""General language: do a relation's neurons matter for its objects outside of questions?

Claim: relation neurons serve the relation, not the words: without them the objects are as
predictable as before in sentences that have nothing to do with the relation.
arXiv 2502.17355; METHODS §2, study 9.

1. Every evaluation object of a relation is put into unrelated carrier sentences for things of its
   kind; what precedes it is the prompt, the object the answer.
2. Perplexity per token of the object = exp(−log P / tokens), untouched, with the relation's own
   neurons off and with matched random sets off.
3. Test per relation: own against matched, log P per token, sign flips over objects, Holm.
4. Beside it: the loss of log P per token of the same relation's evaluation prompts.

What differs from the paper: carriers are given (`carriers`), controls and tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from broca.prompts import Prompt
from broca.store import summary_key
from broca.studies.relations.figures import adjust, by_prompt, flip_p, mean, median
from broca.studies.relations.material import Material, evaluation_group, left_out
from broca.studies.relations.texts import KIND_ALIASES, load_carriers
from broca.studies.study import Bench, Findings, Outcomes, Plan, Results


class GeneralLanguage:
    """Objects in carrier sentences."""

    name = "relations.general"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """Own and matched sets off on the carriers of every relation's objects."""
        config = material.config
        carriers = load_carriers(config.carriers)
        kinds = {n: object_kind(material, n) for n in material.names}
        prompts = {
            name: carrier_prompts(material, name, carriers[kind], config.n_carriers)
            for name, kind in kinds.items()
            if kind in carriers
        }
        groups = {f"carriers/{name}": listed for name, listed in prompts.items()}
        groups |= {evaluation_group(name): material.evaluation[name] for name in prompts}
        cells: dict[str, dict[str, Any]] = {}
        lacking = {n: kind for n, kind in kinds.items() if kind not in carriers}
        extra = {"cells": cells, "lacking": lacking}
        plan = material.plan(groups, extra=extra)
        for name in prompts:
            group = [f"carriers/{name}"]
            cells[name] = {
                "own": plan.switch_off(material.sets[name], group),
                "asked": plan.switch_off(material.sets[name], [evaluation_group(name)]),
                "matched": material.matched_off(plan, name, group, config.n_template_controls),
            }
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """Perplexities before and after."""
        records = [
            _record(material, results, name, cell) for name, cell in results.extra["cells"].items()
        ]
        adjust(records, "p")
        lacking = [
            {"relation": name, "kind": kind} for name, kind in results.extra["lacking"].items()
        ]
        figures = _figures(records, material.config.alpha)
        return Findings(
            figures=figures,
            tables={"left_out": left_out(material), "relations": records, "lacking": lacking},
            words=_words(records, lacking, figures),
        )


def object_kind(material: Material, name: str) -> str:
    """What a relation's objects are, by the name the carriers use."""
    kind = material.facts[name].object_kind
    return KIND_ALIASES.get(kind, kind)


def carrier_prompts(
    material: Material, name: str, carriers: Sequence[str], most: int
) -> tuple[Prompt, ...]:
    """The objects of the evaluation facts in carriers, in turns, at most so many prompts."""
    objects = list(dict.fromkeys(prompt.answers[0] for prompt in material.evaluation[name]))
    pairs = [
        (thing, (at + turn) % len(carriers))
        for turn in range(len(carriers))
        for at, thing in enumerate(objects)
    ]
    return tuple(
        Prompt(
            id=f"carrier/{name}/{thing}/{number}",
            text=carriers[number].partition("{}")[0].rstrip(),
            answers=(thing,),
            relation=name,
            language=material.config.language,
            template=f"carrier.{number}",
            fact=f"carrier/{name}/{thing}",
            field=material.facts[name].field,
            role="carrier",
        )
        for thing, number in pairs[:most]
    )


def _per_token(outcomes: Outcomes, values: np.ndarray) -> np.ndarray:
    return values / outcomes.n_answer_tokens


def _record(
    material: Material, results: Results, name: str, cell: dict[str, Any]
) -> dict[str, Any]:
    own, asked, matched = (results[cell[part]] for part in ("own", "asked", "matched"))
    before, after = _per_token(own, own.log_p_before), _per_token(own, own.log_p)
    kept = by_prompt(matched, _per_token(matched, matched.log_p))
    random = np.array([kept[prompt] for prompt in own.prompt])
    return {
        "relation": name,
        "n": len(own),
        "objects": len(set(own.fact)),
        "perplexity_before": float(np.exp(-before.mean())),
        "perplexity": float(np.exp(-after.mean())),
        "perplexity_matched": float(np.exp(-random.mean())),
        "loss": float((before - after).mean()),
        "loss_matched": float((before - random).mean()),
        "loss_asked": float(_per_token(asked, asked.log_p_before - asked.log_p).mean()),
        "p": flip_p(random - after, material.config),
    }


def _figures(records: Sequence[dict[str, Any]], alpha: float) -> dict[str, float | int | None]:
    figures: dict[str, float | int | None] = {
        "general.relations": len(records),
        "general.relations_hurt": sum(r["p_holm"] < alpha for r in records),
        "general.perplexity_ratio": median(
            r["perplexity"] / r["perplexity_before"] for r in records
        ),
        "general.perplexity_ratio_matched": median(
            r["perplexity_matched"] / r["perplexity_before"] for r in records
        ),
        "general.loss": mean(r["loss"] for r in records),
        "general.loss_matched": mean(r["loss_matched"] for r in records),
        "general.loss_asked": mean(r["loss_asked"] for r in records),
    }
    for record in records:
        for key in ("perplexity_before", "perplexity"):
            figures[summary_key("general", record["relation"], key)] = record[key]
    return figures


def _words(
    records: Sequence[dict[str, Any]], lacking: Sequence[dict[str, Any]], figures: dict[str, Any]
) -> list[str]:
    words = []
    if records:
        words.append(
            "In unrelated sentences a relation's objects become "
            f"{figures['general.perplexity_ratio']:.2f} times as perplexing with its neurons off "
            f"(median over relations; matched random "
            f"{figures['general.perplexity_ratio_matched']:.2f}): a loss of "
            f"{figures['general.loss']:.2f} nats per token, where questions lose "
            f"{figures['general.loss_asked']:.2f}. More than random in "
            f"{figures['general.relations_hurt']} of {len(records)} relations."
        )
        if 2 * figures["general.relations_hurt"] > len(records):
            words.append("So they are not as predictable as before: the claim does not hold here.")
        if median(r["perplexity_before"] for r in records) > 1000:
            words.append(
                "The model hardly expects these objects in such sentences even untouched, so "
                "little can be lost: it knows its prompts rather than general language."
            )
    if lacking:
        names = ", ".join(f"{r['relation']} ({r['kind'] or 'no kind'})" for r in lacking)
        words.append(f"No carriers for the objects of {names}: left out.")
    return words


STUDIES = (GeneralLanguage(),)
