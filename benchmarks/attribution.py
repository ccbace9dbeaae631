"""Neuron attribution against the plain loop, captum and the speed of the machine.

- `loop_LAYERSxWIDTH_TOKENS`: time of the plain loop (tests/plain_loop.py: one layer at a time, all
  nodes in one batch of full prompts, logits of the last position only) / ours.
- `captum_6x256_50`: time of captum's IntegratedGradients over the patched last token / ours.
- `ceiling_12x768_200`: (minimal work / our time) / the rate of a 2048 x 2048 x 2048 product in
  the same run. Minimal work: the base pass and m * L(L - 1)/2 row-layers forward and backward,
  with respect to activations, products of weights only.

Random Llamas, float32, m = 20 nodes of `riemann-right`, one question at a time. One thread, process
CPU time, median of alternating runs. The loop's backward pass grows linearly with the layers above
the scaled one, so for 12 layers it runs on layers 1, 4, 7 and 10, whose mean depth is that of all,
and its time is multiplied by three (`--all-layers` runs them all). Results are compared on the
layers that ran. With two threads: wall time, which a busy machine blurs. Source: METHODS, "The fast
exact attribution".
"""

from __future__ import annotations

# isort: off
from timing import Timing, alternate, print_result, print_table, ratio

# isort: on
import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from captum.attr import IntegratedGradients  # pyright: ignore[reportMissingImports]

from broca.attributions import attribute_neurons, fixed_rule
from broca.model import LanguageModel

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from plain_loop import (  # pyright: ignore[reportMissingImports]
    attribute_layer,
    last_values,
    scaled_probability,
)
from tiny import tiny_tokenizer  # pyright: ignore[reportMissingImports]

VOCABULARY, STEPS = 1_000, 20
METHOD = "riemann-right"
PRODUCT = 2048


@dataclass
class Case:
    """One random Llama with one question."""

    n_layers: int
    width: int
    n_tokens: int
    n_steps: int = STEPS

    def __post_init__(self) -> None:
        config = transformers.LlamaConfig(
            hidden_size=self.width,
            intermediate_size=self.width * 8 // 3 // 64 * 64,
            num_hidden_layers=self.n_layers,
            num_attention_heads=self.width // 64,
            vocab_size=VOCABULARY,
            max_position_embeddings=1024,
            initializer_range=0.04,
            bos_token_id=1,
            eos_token_id=2,
        )
        torch.manual_seed(0)
        module = transformers.LlamaForCausalLM(config).eval()
        self.model = LanguageModel(module, tiny_tokenizer(), name=str(self))
        self.tokens = torch.randint(3, VOCABULARY, (self.n_tokens,)).tolist()
        self.target = int(self.model.logits(self.model.pad([self.tokens]))[0, -1].argmax())
        self.rule = fixed_rule(METHOD, self.n_steps)

    def __str__(self) -> str:
        return f"{self.n_layers}x{self.width}_{self.n_tokens}"

    def ours(self) -> np.ndarray:
        """NA [layer, neuron]."""
        found = attribute_neurons(
            self.model,
            [self.tokens],
            target=self.target,
            method=METHOD,
            n_steps=self.n_steps,
            progress=False,
        )
        return found[0].values

    def loop(self, layers: range) -> np.ndarray:
        """The same by the plain loop."""
        rule = self.rule
        parts = [
            attribute_layer(self.model, self.tokens, self.target, l, rule.nodes, rule.weights)
            for l in layers
        ]
        return torch.stack(parts).numpy()

    def captum(self, layers: range) -> np.ndarray:
        """The same by captum."""
        parts = []
        for layer in layers:
            values, _ = last_values(self.model, torch.tensor([self.tokens]), layer, "hidden")

            def probability(rows: torch.Tensor, layer: int = layer) -> torch.Tensor:
                return scaled_probability(self.model, self.tokens, self.target, layer, rows)

            found = IntegratedGradients(probability).attribute(
                values[None], n_steps=self.n_steps, method="riemann_right"
            )
            parts.append(found[0])
        return torch.stack(parts).detach().numpy()

    def minimal_work(self) -> float:
        """Floating point operations without which the integral cannot be had."""
        d_ff = self.model.identity.width("hidden")
        row_layer = 2 * (4 * self.width**2 + 3 * self.width * d_ff)
        rows = self.n_tokens * self.n_layers
        rows += 2 * self.n_steps * self.n_layers * (self.n_layers - 1) / 2
        return row_layer * rows


def compare(case: Case, found: np.ndarray, layers: range) -> float:
    """Largest difference from ours / largest score.

    Raises:
        SystemExit: If it is more than 1e-4.
    """
    reference = case.ours()
    error = float(np.abs(found - reference[list(layers)]).max() / np.abs(reference).max())
    if error > 1e-4:
        raise SystemExit(f"{case}: results differ by {error:.2g} of the largest score")
    return error


def measure_against(case: Case, name: str, runs: int, sampled: bool, clock) -> dict[str, float]:
    """Ratio of times, with its spread, of a peer to ours."""
    layers = range(1, case.n_layers, 3) if sampled else range(case.n_layers)
    peer = getattr(case, name)
    error = compare(case, peer(layers), layers)
    times = alternate({name: lambda: peer(layers), "ours": case.ours}, runs, clock=clock)
    found = ratio(times[name], times["ours"], case.n_layers / len(layers))
    return {**found, "seconds": times["ours"].median, "error": error}


def measure_ceiling(case: Case, runs: int, clock) -> dict[str, float]:
    """Share of the machine's rate of products that minimal work / time reaches."""
    a, b = torch.randn(2, PRODUCT, PRODUCT)
    times = alternate({"product": lambda: a @ b, "ours": case.ours}, runs, clock=clock)
    # Both times swing together on a busy machine: the ratio is taken run by run.
    share = ratio(times["product"], times["ours"], case.minimal_work() / (2 * PRODUCT**3))
    rate = 2 * PRODUCT**3 / times["product"].median / 1e9
    return {**share, "seconds": times["ours"].median, "error": 0.0, "gflops": rate}


def measure_all(runs: int, all_layers: bool, clock) -> dict[str, dict[str, float]]:
    """All figures with the present number of threads."""
    small, middle, large = Case(6, 256, 50), Case(12, 512, 200), Case(12, 768, 200)
    return {
        f"loop_{small}": measure_against(small, "loop", runs, False, clock),
        f"captum_{small}": measure_against(small, "captum", runs, False, clock),
        f"loop_{middle}": measure_against(middle, "loop", runs, not all_layers, clock),
        f"ceiling_{large}": measure_ceiling(large, runs, clock),
    }


GROWTH = {
    "prompt length": [(6, 256, n, STEPS) for n in (25, 50, 100, 200)],
    "layers": [(n, 256, 50, STEPS) for n in (3, 6, 12)],
    "nodes": [(6, 256, 50, n) for n in (5, 10, 20, 40)],
}


def measure_growth(runs: int) -> list[dict[str, object]]:
    """Seconds of loop and ours along each axis, at 256 wide from 6 layers, 50 tokens, 20 nodes."""
    rows = []
    for axis, cases in GROWTH.items():
        varied = {"prompt length": 2, "layers": 0, "nodes": 3}[axis]
        for settings in cases:
            case = Case(*settings)
            every = range(case.n_layers)
            loop = alternate({"loop": lambda c=case, e=every: c.loop(e)}, 1, warm_up=False)["loop"]
            ours: Timing = alternate({"ours": case.ours}, runs)["ours"]
            for form, timing in (("plain loop", loop), ("broca", ours)):
                rows.append(
                    {
                        "axis": axis,
                        "value": settings[varied],
                        "form": form,
                        "seconds": timing.median,
                    }
                )
    return rows


def draw_growth(rows: list[dict[str, object]], path: str) -> None:
    """Save the growth as a chart (SVG, PNG or PDF by the file's ending)."""
    import altair

    data = altair.Data(values=rows)
    base = altair.Chart(data).mark_line(point=True)
    chart = base.encode(
        x=altair.X("value:Q", title=None, scale=altair.Scale(type="log", nice=False)),
        y=altair.Y("seconds:Q", title="CPU seconds per question", scale=altair.Scale(type="log")),
        color=altair.Color("form:N", title=None),
    ).properties(width=200, height=180)
    chart.facet(column=altair.Column("axis:N", title=None)).resolve_scale(x="independent").save(
        path
    )


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="alternating runs, at least 5")
    parser.add_argument("--all-layers", action="store_true", help="loop over all of 12 layers")
    parser.add_argument("--one-thread", action="store_true", help="leave two threads out")
    parser.add_argument("--chart", metavar="PATH", help="save the growth chart there")
    options = parser.parse_args()

    result: dict[str, object] = {}
    for threads in (1,) if options.one_thread else (1, 2):
        torch.set_num_threads(threads)
        clock = time.process_time if threads == 1 else time.perf_counter
        found = measure_all(options.runs, options.all_layers, clock)
        suffix = "" if threads == 1 else "_two_threads"
        print(f"\n{threads} thread(s), {'CPU' if threads == 1 else 'wall'} time")
        print_table(
            ("figure", "median", "lowest", "highest", "our seconds", "largest difference"),
            [
                (name, *(f"{v[k]:.3g}" for k in ("median", "low", "high", "seconds", "error")))
                for name, v in found.items()
            ],
        )
        for name, values in found.items():
            result[f"{name}{suffix}"] = round(values["median"], 3)
            result[f"{name}{suffix}_spread"] = [round(values["low"], 3), round(values["high"], 3)]
    torch.set_num_threads(1)
    growth = measure_growth(3)
    print("\nGrowth, CPU seconds per question")
    pairs = [(a, b) for a, b in zip(growth[::2], growth[1::2], strict=True)]
    print_table(
        ("axis", "value", "plain loop", "broca", "ratio"),
        [
            (
                a["axis"],
                a["value"],
                f"{a['seconds']:.3g}",
                f"{b['seconds']:.3g}",
                f"{a['seconds'] / b['seconds']:.3g}",  # type: ignore[operator]
            )
            for a, b in pairs
        ],
    )
    if options.chart:
        draw_growth(growth, options.chart)
    print_result(result)


if __name__ == "__main__":
    main()
