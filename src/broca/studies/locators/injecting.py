"""Put a fact into a chosen few value vectors, and nowhere else: a truth to look for.

1. The value vectors of some neurons, drawn at random, become parameters; nothing else does.
2. Adam lowers the mean -log P of the answer's tokens until it is below ``known``.
3. What was added to these vectors is the edit; the neurons are the truth.

Source: INJ of arXiv 2311.09060, section 3.1 (loss below .05).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from broca.edits import ValueVectors
from broca.edits.weights import check_editable
from broca.effects.aims import Aim
from broca.errors import StudyError
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, NeuronSet


@dataclass(frozen=True)
class Injection:
    """A fact put into a model.

    Attributes:
        vectors: What is added to which value vectors.
        loss: Mean -log P of the answer's tokens afterwards.
        before: The same before.
        n_steps: Steps spent.
    """

    vectors: ValueVectors
    loss: float
    before: float
    n_steps: int


def draw_truth(model: LanguageModel, share: float, seed: Sequence[int]) -> NeuronSet:
    """Neurons drawn at random from all layers."""
    index = NeuronIndex(model.identity, ("hidden",))
    n = max(1, round(share * len(index)))
    drawn = np.random.default_rng(list(seed)).choice(len(index), n, replace=False)
    return index.select(np.sort(drawn), name="injected", method="injected")


def require_value_vectors(model: LanguageModel) -> None:
    """Refuse mixtures of experts: what is added to a value vector is weighed by their router.

    Raises:
        StudyError: Naming the model.
    """
    if model.identity.experts:
        raise StudyError(
            "nothing can be put into the value vectors of experts",
            model.name,
            "Leave out locators.injection and locators.planted.",
        )


def inject(
    model: LanguageModel,
    aims: Sequence[Aim],
    neurons: NeuronSet,
    *,
    known: float = 0.05,
    learning_rate: float = 1e-2,
    max_steps: int = 300,
) -> Injection:
    """Train value vectors of some neurons on one answer.

    Args:
        model: The model; its weights stay as they are.
        aims: The answer's tokens, see :func:`broca.effects.aims.make_aims`.
        neurons: Whose value vectors may change.
        known: Loss at which the answer counts as known.
        learning_rate: Of Adam, against the mean length of the value vectors.
        max_steps: Steps at most.

    Raises:
        EditError: If the model is quantised or its weights are shared between layers.
        StudyError: If the model is a mixture of experts.
    """
    require_value_vectors(model)
    check_editable(model)
    tokens = [*aims[-1].tokens, aims[-1].target]
    targets = torch.tensor([aim.target for aim in aims], device=model.device)
    batch = model.pad([tokens[:-1]])
    layers = sorted(set(neurons.layers.tolist()))
    places = {layer: np.flatnonzero(neurons.layers == layer) for layer in layers}
    width = model.identity.width("down")
    change = torch.zeros(len(neurons), width, device=model.device, requires_grad=True)
    scale = float(model.value_norms(layers[0]).mean()) / width**0.5
    optimiser = torch.optim.Adam([change], lr=learning_rate * 10 * scale)
    before, loss, steps = float("nan"), float("inf"), 0
    while steps <= max_steps:
        with torch.enable_grad(), _added(model, neurons, places, change):
            logits = model.module(
                input_ids=batch.ids,
                attention_mask=batch.attention_mask,
                position_ids=batch.position_ids,
                use_cache=False,
                logits_to_keep=len(targets),
            ).logits[0]
            nll = torch.nn.functional.cross_entropy(logits.float(), targets)
            loss = float(nll.detach())
            before = loss if steps == 0 else before
            if loss < known:
                break
            change.grad = torch.autograd.grad(nll, change)[0]
        optimiser.step()
        steps += 1
    vectors = ValueVectors(neurons, change.detach().float().cpu(), "injected")
    return Injection(vectors, loss, before, steps)


@contextmanager
def _added(model: LanguageModel, neurons: NeuronSet, places, change: Tensor):
    """Add hidden values times changes to the down projections' outputs."""
    held: dict[int, Tensor] = {}
    with ExitStack() as stack:
        for layer, rows in places.items():
            index = torch.from_numpy(neurons.indices[rows].astype(np.int64)).to(model.device)

            def keep(values: Tensor, layer: int = layer, index: Tensor = index) -> None:
                held[layer] = values[..., index]

            def add(output: Tensor, layer: int = layer, rows: np.ndarray = rows) -> Tensor:
                return output + (held[layer] @ change[torch.from_numpy(rows)]).to(output.dtype)

            stack.enter_context(model.touch("hidden", layer, keep))
            stack.enter_context(model.touch("down", layer, add))
        yield
