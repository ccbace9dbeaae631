"""Which neurons are measured where not all are: the ones ranked first, and a sample of the rest.

1. Neurons are ranked by |gradient * (replacement - value)|, the first-order estimate of the
   effect, over all layers together.
2. The first ``share`` of them is measured.
3. So is a random sample of the rest: what it shows bounds what was missed
   (:meth:`broca.effects.Effect.missed`). An effect that the gradient does not see (a saturated
   softmax) is seen there.

Source: AtP* (arXiv 2403.00745), its verification by random samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from broca.effects.gradients import hidden_gradients
from broca.effects.rows import Ablation
from broca.errors import EffectError

DEFAULT_SAMPLE = 0.1  # of the neurons ranked first


@dataclass(frozen=True)
class Chosen:
    """Which neurons are measured.

    Attributes:
        neurons: Per layer, their indices in rising order.
        sampled: Which of them were drawn from the rest, bool [layer, neuron]; None if all are
            measured.
    """

    neurons: list[torch.Tensor]
    sampled: np.ndarray | None


def check_share(share: float | None, sample: int | None) -> None:
    """Refuse a share that is none.

    Raises:
        EffectError: If it is not above 0 and at most 1, or the sample is negative.
    """
    if share is not None and not 0 < share <= 1:
        raise EffectError("prefilter must be above 0 and at most 1", f"prefilter={share}")
    if sample is not None and sample < 0:
        raise EffectError("sample must be at least 0", f"sample={sample}")


def choose_neurons(
    ablation: Ablation, share: float | None, sample: int | None, seed: int
) -> Chosen:
    """Choose the neurons to measure on one prompt.

    Args:
        ablation: The prompt.
        share: Share of all neurons, ranked first; None measures all.
        sample: Neurons drawn from the rest; a tenth of those ranked first by default.
        seed: Draws them.
    """
    model = ablation.model
    width = model.widths["hidden"]
    if share is None or share == 1:
        return Chosen([torch.arange(width)] * model.n_layers, None)
    gradient = hidden_gradients(model, ablation.base, [ablation.aim])[0].cpu()
    values = torch.stack([hidden[0].float().cpu() for hidden in ablation.base.hidden])
    estimate = (gradient * (ablation.replacement.cpu() - values)).abs().flatten().numpy()
    order = np.argsort(-estimate, kind="stable")
    n_first = max(1, round(share * len(order)))
    n_drawn = round(DEFAULT_SAMPLE * n_first) if sample is None else sample
    rest = order[n_first:]
    drawn = np.random.default_rng(seed).choice(rest, min(n_drawn, len(rest)), replace=False)
    chosen = np.zeros(len(order), dtype=bool)
    sampled = np.zeros(len(order), dtype=bool)
    sampled[drawn] = True
    chosen[order[:n_first]] = True
    chosen |= sampled
    grid = chosen.reshape(model.n_layers, width)
    return Chosen(
        [torch.from_numpy(np.flatnonzero(row)) for row in grid],
        sampled.reshape(model.n_layers, width),
    )
