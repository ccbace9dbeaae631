"""Experts at the last token: their output by itself, and their routing held as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from broca.model.branches.attention import BranchesRefusedError
from broca.model.branches.blocks import run_mixture
from broca.model.branches.passes import BasePass
from broca.model.language_model import LanguageModel


def mixture_output(model: LanguageModel, base: BasePass, layer: int, hidden: Tensor) -> Tensor:
    """What a layer's experts put out at the last token, [prompt, d_model], for hidden values
    [prompt, neuron]: routing and all else as they were.

    Raises:
        BranchesRefusedError: If they cannot be run alone.
    """
    entering = base.entering[layer]
    if entering is None or model.block(layer).mlp is None:
        raise BranchesRefusedError("the experts cannot be run by themselves")
    return run_mixture(model, layer, entering, hidden)


@contextmanager
def routing_held(model: LanguageModel, base: BasePass, n_last: int) -> Iterator[None]:
    """Send last tokens and their branches to the experts of the base pass, with its weights.

    Args:
        model: The model.
        base: The base pass of the prompts.
        n_last: How many tokens at each sequence's end are branches of the last one; where a
            prompt has several batch rows, 1.
    """

    def hold(kept: tuple[Tensor, Tensor]):
        def function(routing: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return tuple(  # type: ignore[return-value]
                _with_last(now, then, model.rows, n_last)
                for now, then in zip(routing, kept, strict=True)
            )

        return function

    with ExitStack() as stack:
        for block, kept in zip(model.blocks, base.routing, strict=True):
            if block.experts is not None and kept is not None:
                stack.enter_context(block.experts.rerouted(hold(kept)))
        yield


def _with_last(now: Tensor, then: Tensor, rows: int, n_last: int) -> Tensor:
    """Choices [token, choice] with those of the last tokens as they were, [prompt, choice]."""
    by_row = now.unflatten(0, (rows, -1))
    n_last = min(n_last, by_row.shape[1])
    last = then.repeat_interleave(rows // len(then), 0).unsqueeze(1).expand(-1, n_last, -1)
    return torch.cat([by_row[:, :-n_last], last.to(now)], 1).flatten(0, 1)
