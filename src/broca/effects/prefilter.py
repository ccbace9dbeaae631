"""Which neurons are measured where not all are: the ones ranked first, and a sample of the rest.

1. Neurons are ranked by |gradient * (replacement - value)|, the first-order estimate of the
   effect, over all layers together; of an answer of several tokens by the size of its sum.
2. The first ``share`` of them is measured.
3. So is a random sample of the rest: what it shows bounds what was missed
   (:meth:`broca.effects.Effect.missed`). An effect that the gradient does not see (a saturated
   softmax) is seen there.

Source: AtP* (arXiv 2403.00745), its verification by random samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch

from broca.effects.gradients import hidden_gradients
from broca.effects.rows import Ablation
from broca.errors import EffectError
from broca.model import LanguageModel
from broca.model.branches import BasePass

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
        EffectError: If it is no number above 0 and at most 1, or the sample is negative.
    """
    number = isinstance(share, Real) and not isinstance(share, bool)
    if share is not None and not (number and 0 < share <= 1):
        raise EffectError("prefilter must be above 0 and at most 1", f"prefilter={share}")
    if sample is not None and sample < 0:
        raise EffectError("sample must be at least 0", f"sample={sample}")


def choose_neurons(
    ablations: Sequence[Ablation], share: float | None, sample: int | None, seed: int
) -> Chosen:
    """Choose the neurons to measure on one prompt.

    Args:
        ablations: The prompt, at each token of its answer.
        share: Share of all neurons, ranked first; None measures all.
        sample: Neurons drawn from the rest; a tenth of those ranked first by default.
        seed: Draws them.
    """
    model = ablations[0].model
    width = model.identity.width("hidden")
    there = torch.stack([reached(model, one.base) for one in ablations]).any(0)
    if share is None or share == 1:
        return Chosen([row.nonzero().flatten() for row in there], None)
    estimate = torch.stack([_estimate(one) for one in ablations]).sum(0).abs().flatten().numpy()
    order = np.argsort(-estimate, kind="stable")
    order = order[there.flatten().numpy()[order]]
    n_first = max(1, round(share * len(order)))
    n_drawn = round(DEFAULT_SAMPLE * n_first) if sample is None else sample
    rest = order[n_first:]
    drawn = np.random.default_rng(seed).choice(rest, min(n_drawn, len(rest)), replace=False)
    chosen = np.zeros(len(estimate), dtype=bool)
    sampled = np.zeros(len(estimate), dtype=bool)
    sampled[drawn] = True
    chosen[order[:n_first]] = True
    chosen |= sampled
    grid = chosen.reshape(model.n_layers, width)
    return Chosen(
        [torch.from_numpy(np.flatnonzero(row)) for row in grid],
        sampled.reshape(model.n_layers, width),
    )


def _estimate(ablation: Ablation) -> torch.Tensor:
    """Gradient * change, [layer, neuron]."""
    gradient = hidden_gradients(ablation.model, ablation.base, [ablation.aim])[0].cpu()
    values = padded([hidden[0].float().cpu() for hidden in ablation.base.hidden])
    return gradient * (ablation.replacement.cpu() - values)


def padded(rows: Sequence[torch.Tensor], fill: float = 0.0) -> torch.Tensor:
    """Rows of unequal length as [row, neuron], a fill behind the shorter ones."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=fill)


def reached(model: LanguageModel, base: BasePass) -> torch.Tensor:
    """Which neurons the last token of a single prompt reaches, bool [layer, neuron].

    All but those of experts that it is not routed to: nothing in their place changes anything.
    """
    found = torch.zeros(model.n_layers, model.identity.width("hidden"), dtype=torch.bool)
    for layer, width in enumerate(model.identity.layer_widths("hidden")):
        found[layer, :width] = True
        experts, routing = model.block(layer).experts, base.routing[layer]
        if experts is not None and routing is not None and not experts.dense:
            found[layer, : experts.total] = False
            for expert in routing[0][0].tolist():
                found[layer, expert * experts.width : (expert + 1) * experts.width] = True
    return found


def unmeasured(model: LanguageModel, base: BasePass) -> np.ndarray:
    """NaN [layer, neuron] where an effect is to be measured; 0 where a neuron cannot have one."""
    nothing = np.zeros((model.n_layers, model.identity.width("hidden")), np.float32)
    nothing[reached(model, base).numpy()] = np.nan
    for layer, width in enumerate(model.identity.layer_widths("hidden")):
        nothing[layer, width:] = np.nan
    return nothing
