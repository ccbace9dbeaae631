"""Gradients of the objective by all hidden neurons at the last position: one backward pass.

The last token runs once on the prefix's keys and values, forward and backward; the prefix gets no
gradient, since nothing before the last token is replaced. Gradient times change of value is the
first-order estimate of a neuron's effect (attribution patching, Nanda 2023; AtP, arXiv 2403.00745).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from broca.effects.aims import Aim, read_all
from broca.effects.driving import at_last, copies_of
from broca.model import LanguageModel
from broca.model.branches import BasePass


def hidden_gradients(model: LanguageModel, base: BasePass, aims: Sequence[Aim]) -> Tensor:
    """Gradient of each prompt's objective by its hidden values, float32 [prompt, layer, neuron].

    0 behind a layer's end.

    Raises:
        EffectError: If last tokens of the model cannot be run by themselves.
    """
    run = copies_of(model)
    added = [torch.zeros_like(values, requires_grad=True) for values in base.hidden]
    with torch.enable_grad(), added_at_last(model, added):
        logits = run(model, base, 1)[:, -1]
        found = torch.autograd.grad(read_all(aims, logits).sum(), added, allow_unused=True)
    widest = max(values.shape[-1] for values in added)
    return torch.stack(
        [
            nn.functional.pad(part, (0, widest - part.shape[-1])).float().to(logits.device)
            for part in (
                torch.zeros_like(values) if gradient is None else gradient
                for values, gradient in zip(added, found, strict=True)
            )
        ],
        1,
    )


@contextmanager
def added_at_last(model: LanguageModel, added: Sequence[Tensor]) -> Iterator[None]:
    """Add to every layer's hidden values at the last token, [prompt, neuron] each."""
    with ExitStack() as stack:
        for layer, change in enumerate(added):
            if "hidden" not in model.block(layer).widths():
                continue

            def add(values: Tensor, change: Tensor = change) -> Tensor:
                return at_last(values, change, torch.add)

            stack.enter_context(model.touch("hidden", layer, add))
        yield
