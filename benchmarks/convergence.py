"""How many nodes does an attribution need? The default beside the papers' rules.

1. Multiple-choice prompts about the embedded facts, in turn from every field, are attributed with
   the default (which spends nodes until both convergence figures are met), and with fixed rules.
2. Error of a prompt: largest difference of a neuron from a converged integral (Gauss-Legendre, 64
   nodes) as a share of the prompt's largest value. Prompts without effect are left out.
3. On more prompts, the share that the default reports as converged.

    python benchmarks/convergence.py [--model atlas] [--prompts 50] [--wide 150]

Prints a table; the last line is one JSON object. Threads are fixed at 1.
"""

from __future__ import annotations

# isort: off
from timing import print_result, print_table

# isort: on
import argparse
import time
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import torch

from broca.attributions import Attribution, attribute_neurons
from broca.model import LanguageModel
from broca.prompts import ChoicePrompt, render_question_prompts
from broca.questions import load_questions

REFERENCE = ("gauss-legendre", 64)
RULES: tuple[tuple[str, str, int | None, str], ...] = (
    ("default", "auto", None, "broca"),
    ("riemann-right 16", "riemann-right", 16, "the paper"),
    ("riemann-linspace 16", "riemann-linspace", 16, "its code, as released"),
    ("riemann-linspace 20", "riemann-linspace", 20, "its code's default"),
    ("midpoint 20", "midpoint", 20, ""),
    ("gauss-legendre 8", "gauss-legendre", 8, ""),
    ("gauss-legendre 16", "gauss-legendre", 16, ""),
)
TOLERANCE = 0.02


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="atlas")
    options.add_argument("--prompts", type=int, default=50, help="compared with the reference")
    options.add_argument("--wide", type=int, default=150, help="attributed with the default")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    model = LanguageModel.from_pretrained(chosen.model)
    prompts = choose_prompts(max(chosen.wide, chosen.prompts))
    found = compare(model, prompts[: chosen.prompts])
    wide, _ = attribute(model, prompts[: chosen.wide], "auto", None)
    found |= wide_figures(wide)
    draw(found)
    print_result(found)


def choose_prompts(n: int) -> list[ChoicePrompt]:
    """Prompts of the embedded facts, in turn from every field."""
    n_fields = 6
    questions = load_questions("atlas", per_field=-(-n // (3 * n_fields)))
    by_field: dict[str, list[ChoicePrompt]] = {}
    for prompt in render_question_prompts(questions):
        by_field.setdefault(prompt.field, []).append(prompt)
    turns = zip_longest(*by_field.values())
    return [prompt for prompt in chain.from_iterable(turns) if prompt is not None][:n]


def attribute(
    model: LanguageModel, prompts: Sequence[ChoicePrompt], method: str, n_steps: int | None
) -> tuple[list[Attribution], float]:
    """Attributions and the process CPU time they took."""
    start = time.process_time()
    found: Any = attribute_neurons(model, prompts, method=method, n_steps=n_steps, progress=False)
    return list(found), time.process_time() - start


def compare(model: LanguageModel, prompts: Sequence[ChoicePrompt]) -> dict[str, Any]:
    """Errors of every rule against the reference."""
    reference, _ = attribute(model, prompts, *REFERENCE)
    judged = [not one.without_effect for one in reference]
    rules = {}
    for name, method, n_steps, source in RULES:
        found, seconds = attribute(model, prompts, method, n_steps)
        pairs = [
            p
            for p, wanted in zip(zip(found, reference, strict=True), judged, strict=True)
            if wanted
        ]
        errors = np.array([error_of(one, true) for one, true in pairs])
        rules[name] = {
            "source": source,
            "nodes": float(np.median([one.n_steps for one, _ in pairs])),
            "error_mean": float(errors.mean()),
            "error_median": float(np.median(errors)),
            "error_worst": float(errors.max()),
            "within_2_percent": float((errors <= TOLERANCE).mean()),
            "completeness_worst": float(max(one.completeness_error for one, _ in pairs)),
            "milliseconds_per_prompt": 1000 * seconds / len(prompts),
        }
    return {"prompts": len(prompts), "judged": sum(judged), "rules": rules}


def error_of(one: Attribution, true: Attribution) -> float:
    """Largest difference of a neuron / the largest value."""
    return float(np.abs(one.values - true.values).max() / np.abs(true.values).max())


def wide_figures(found: Sequence[Attribution]) -> dict[str, Any]:
    """What the default reports of itself on many prompts."""
    judged = [one for one in found if not one.without_effect]
    return {
        "wide_prompts": len(found),
        "wide_judged": len(judged),
        "converged_share": float(np.mean([one.converged for one in judged])),
        "worst_completeness_error": max(one.completeness_error for one in judged),
        "worst_step_change": max(one.step_change for one in judged),
        "nodes_mean": float(np.mean([one.n_steps for one in judged])),
        "nodes_most": max(one.n_steps for one in judged),
    }


def draw(found: dict[str, Any]) -> None:
    print(f"error of the worst neuron against 64 nodes, {found['judged']} prompts")
    print_table(
        ("rule", "nodes", "mean", "median", "worst", "<= 2 %", "ms / prompt", "used by"),
        [
            (
                name,
                f"{rule['nodes']:.0f}",
                *(f"{rule[f'error_{what}']:.2%}" for what in ("mean", "median", "worst")),
                f"{rule['within_2_percent']:.0%}",
                f"{rule['milliseconds_per_prompt']:.0f}",
                rule["source"],
            )
            for name, rule in found["rules"].items()
        ],
    )
    print(
        f"default: {found['converged_share']:.1%} of {found['wide_judged']} prompts converged by "
        f"both criteria, {found['nodes_mean']:.0f} nodes in the mean, at most "
        f"{found['nodes_most']}; {found['wide_prompts'] - found['wide_judged']} without effect"
    )


if __name__ == "__main__":
    main()
