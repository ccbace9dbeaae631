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
- ``gradient-activation-everywhere``: g v summed over all positions of prompt and answer.

Cost: one forward pass per prompt and one backward pass of its last token; of all of its tokens for
the last one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from broca.attributions.tails import freeze_norm
from broca.effects.aims import read_all
from broca.effects.gradients import hidden_gradients
from broca.errors import AttributionError
from broca.locators.locator import Question
from broca.model import LanguageModel
from broca.model.branches import base_pass, weights_held

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


def gradient_activation_everywhere(question: Question) -> np.ndarray:
    """g v of log P of the whole answer, summed over all positions, [prompt, layer, neuron]."""
    model = question.model
    found = np.zeros(
        (len(question.aims), model.n_layers, model.identity.width("hidden")), np.float32
    )
    for number, listed in enumerate(question.aims):
        added: dict[int, Tensor] = {}
        held: dict[int, Tensor] = {}
        with torch.enable_grad(), _added_everywhere(model, added, held):
            logits = model.forward(
                input_ids=torch.tensor([listed[-1].tokens], device=model.device),
                use_cache=False,
                logits_to_keep=len(listed),
            )
            log_p = read_all(listed, logits[0]).sum()
            parts = torch.autograd.grad(log_p, list(added.values()), allow_unused=True)
        for layer, gradient in zip(added, parts, strict=True):
            if gradient is not None:
                summed = (gradient * held[layer]).float().sum((0, 1)).cpu().numpy()
                found[number, layer, : len(summed)] = summed
    return found


@contextmanager
def _added_everywhere(
    model: LanguageModel, added: dict[int, Tensor], held: dict[int, Tensor]
) -> Iterator[None]:
    """Add zeros that take gradients to every layer's hidden values, at all positions."""
    with ExitStack() as stack:
        for layer in range(model.n_layers):
            if "hidden" not in model.block(layer).widths():
                continue

            def add(values: Tensor, layer: int = layer) -> Tensor:
                held[layer] = values.detach()
                added[layer] = torch.zeros_like(held[layer], requires_grad=True)
                return values + added[layer]

            stack.enter_context(model.touch("hidden", layer, add))
        yield


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
