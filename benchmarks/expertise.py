"""Average precision of 20,000 neurons on 1,500 prompts against scikit-learn, neuron by neuron.

`ratio_one`: one relation. `ratio_twelve`: twelve relations, each with its own negatives, which
scikit-learn takes one after the other. scikit-learn runs on a sample of neurons and its time is
scaled up to all of them; results on the sample are compared. One thread, process CPU time, median
of alternating runs. Source: METHODS §5.
"""

from __future__ import annotations

# isort: off
from timing import alternate, print_result, print_table, ratio

# isort: on
import argparse

import numpy as np
from sklearn.metrics import average_precision_score

from broca.scores import average_precision, average_precision_many
from broca.scores.expertise import draw_negatives

N_NEURONS, N_PROMPTS, N_RELATIONS = 20_000, 1_500, 12


def make_responses(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float32 [neuron, prompt] with ties, and positives and members [relation, prompt]."""
    rng = np.random.default_rng(seed)
    labels = [f"relation {i}" for i in np.arange(N_PROMPTS) % N_RELATIONS]
    values = rng.standard_normal((N_NEURONS, N_PROMPTS), dtype=np.float32)
    values[::10] = np.round(values[::10], 1)
    drawn = [draw_negatives(labels, f"relation {r}", seed=seed) for r in range(N_RELATIONS)]
    return values, np.array([d.positive for d in drawn]), np.array([d.included for d in drawn])


def scikit_learn(values: np.ndarray, positive: np.ndarray, included: np.ndarray) -> np.ndarray:
    """The plain way, [neuron, relation]."""
    return np.array(
        [
            [average_precision_score(p[m], row[m]) for p, m in zip(positive, included, strict=True)]
            for row in values
        ]
    )


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="alternating runs, at least 5")
    parser.add_argument("--sample", type=int, default=200, help="neurons given to scikit-learn")
    options = parser.parse_args()
    values, positive, included = make_responses(seed=0)
    everyone = np.ones((1, N_PROMPTS), bool)
    sample = values[np.linspace(0, N_NEURONS - 1, options.sample).astype(int)]
    prompts_first = np.ascontiguousarray(values.T)
    times = alternate(
        {
            "scikit-learn, one": lambda: scikit_learn(sample, positive[:1], everyone),
            "broca, one": lambda: average_precision(values, positive[0]),
            "broca, one, prompts first": lambda: average_precision(
                prompts_first, positive[0], neuron_axis=1
            ),
            "scikit-learn, twelve": lambda: scikit_learn(sample, positive, included),
            "broca, twelve": lambda: average_precision_many(values, positive, included),
        },
        options.runs,
    )
    error_one = np.abs(
        average_precision(sample, positive[0]) - scikit_learn(sample, positive[:1], everyone)[:, 0]
    ).max()
    error_twelve = np.abs(
        average_precision_many(sample, positive, included)
        - scikit_learn(sample, positive, included)
    ).max()
    neurons = {name: len(sample) if "scikit" in name else N_NEURONS for name in times}
    print_table(
        ("contestant", "µs per neuron", "spread"),
        [
            (name, f"{t.median / neurons[name] * 1e6:.1f}", f"{t.spread:.0%}")
            for name, t in times.items()
        ],
    )
    scale = N_NEURONS / len(sample)
    one = ratio(times["scikit-learn, one"], times["broca, one"], scale)
    twelve = ratio(times["scikit-learn, twelve"], times["broca, twelve"], scale)
    print_result(
        {
            "ratio_one": round(one["median"], 1),
            "ratio_one_low": round(one["low"], 1),
            "ratio_one_high": round(one["high"], 1),
            "ratio_twelve": round(twelve["median"], 1),
            "ratio_twelve_low": round(twelve["low"], 1),
            "ratio_twelve_high": round(twelve["high"], 1),
            "largest_difference": float(max(error_one, error_twelve)),
            "neurons": N_NEURONS,
            "prompts": N_PROMPTS,
            "sample": len(sample),
            "runs": options.runs,
        }
    )


if __name__ == "__main__":
    main()
