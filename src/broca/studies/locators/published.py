"""Published figures of arXiv 2311.09060, as they stand in METHODS §8."""

from __future__ import annotations

RECALL: dict[str, dict[str, tuple[float, float, float]]] = {
    "GPT-2 124M": {
        "hard-concrete": (0.495, 0.702, 0.874),
        "slimming": (0.481, 0.667, 0.807),
        "exact": (0.249, 0.375, 0.538),
        "ig": (0.205, 0.321, 0.499),
        "activation": (0.030, 0.052, 0.133),
        "random": (0.01, 0.02, 0.05),
    },
    "Pythia-6.9B": {
        "hard-concrete": (0.368, 0.551, 0.764),
        "slimming": (0.399, 0.551, 0.665),
        "ig": (0.128, 0.187, 0.272),
        "activation": (0.079, 0.124, 0.273),
        "random": (0.01, 0.02, 0.05),
    },
}
"""Model -> locator -> recall@1 %, 2 % and 5 % per layer, 1 % of the value vectors trained."""

LOST: dict[str, tuple[float, float]] = {
    "hard-concrete": (0.577, 0.147),
    "slimming": (0.487, 0.113),
    "ig": (0.323, 0.049),
    "activation": (0.268, 0.081),
    "random": (0.002, 0.002),
}
"""Locator -> own answer lost and others lost, the first .5 % of each layer off, Pythia-6.9B."""
