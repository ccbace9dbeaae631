"""Locators of one backward pass: gradient * activation, gradient * sign, frozen norms.

With g = d log P(y) / d v at the last position:

- ``gradient-activation``: g v, the first-order estimate of what zeroing costs (attribution
  patching, Nanda 2023; arXiv 2403.00745).
- ``gradient``: g sign(v), NeurGrad. These are the same numbers divided by |v|: what a change of
  the neuron by one unit would do, whatever it can do.
- ``frozen-gradient-activation``: g v with the scales of all norms and the weights of attention
  held at what they are: only what flows through values counts, so that a neuron is not blamed for
  making the residual stream longer (the linearisation of transcoder attribution graphs, Ameisen
  et al. 2025).

Cost: one forward pass per prompt and one backward pass of its last token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
from torch import Tensor, nn

from broca.attributions.tails import freeze_norm
from broca.effects.gradients import hidden_gradients
from broca.errors import AttributionError
from broca.locators.locator import Question
from broca.model import LanguageModel
from broca.model.branch_attention import weights_held
from broca.model.branches import base_pass

_BATCH = 16


def gradient_activation(question: Question) -> np.ndarray:
    """g v, summed over the answer's tokens, [prompt, layer, neuron]."""
    gradients, values = gradients_and_values(question)
    return question.summed(gradients * values)


def gradient_sign(question: Question) -> np.ndarray:
    """g sign(v), summed over the answer's tokens, [prompt, layer, neuron]."""
    gradients, values = gradients_and_values(question)
    return question.summed(gradients * np.sign(values))


def frozen_gradient_activation(question: Question) -> np.ndarray:
    """g v with norms and attention held, [prompt, layer, neuron]."""
    gradients, values = gradients_and_values(question, frozen=True)
    return question.summed(gradients * values)


def gradients_and_values(question: Question, frozen: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and value of every hidden neuron at every aim, each [aim, layer, neuron]."""
    model, aims = question.model, question.flat
    shape = (len(aims), model.n_layers, model.identity.width("hidden"))
    gradients, values = np.empty(shape, np.float32), np.zeros(shape, np.float32)
    for rows in model.batches([len(aim.tokens) for aim in aims], _BATCH):
        base = base_pass(model, model.pad([aims[i].tokens for i in rows]))
        with _held(model) if frozen else nullcontext():
            found = hidden_gradients(model, base, [aims[i] for i in rows])
        gradients[rows] = found.cpu().numpy()
        for layer, hidden in enumerate(base.hidden):
            values[rows, layer, : hidden.shape[-1]] = hidden.float().cpu().numpy()
    return gradients, values


@contextmanager
def _held(model: LanguageModel) -> Iterator[None]:
    """Let gradients see no norm's scale and no attention weight."""
    norms = [module for module in model.module.modules() if _is_norm(module)]
    with ExitStack() as stack:
        stack.enter_context(weights_held())
        for norm in norms:
            stack.callback(norm.register_forward_hook(_linear).remove)
        yield


def _is_norm(module: nn.Module) -> bool:
    name = type(module).__name__
    weight = getattr(module, "weight", None)
    return "Norm" in name and isinstance(weight, Tensor) and weight.dim() == 1


def _linear(norm: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
    """The same output, with the gradient of the norm frozen at this input."""
    rows, width = args[0], args[0].shape[-1]
    try:
        flat = rows.detach().reshape(-1, width), output.detach().reshape(-1, width)
        frozen = freeze_norm(norm, *flat)
    except AttributionError:  # no scale times a weight: its own gradient stays
        return None
    moved = frozen((rows - rows.detach()).reshape(-1, 1, width)).view(rows.shape)
    return output.detach() + moved
