"""Copies of prompts' last tokens, run in the fastest way that holds for the model.

1. All copies beside each other over the prefix (:func:`broca.model.branches.run_last_tokens`).
2. Every copy a batch row on the prefix's cache.
3. Every copy a whole prompt: what is left for hybrids, which keep no keys of all tokens.

A way holds if copies of two random prompts, one of each with a layer halved by a hook, give the
logits of ordinary passes; measured once per model.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from broca.attributions.memory import is_out_of_memory
from broca.errors import EffectError
from broca.model import LanguageModel
from broca.model.branches import BasePass, base_pass, run_last_tokens, run_rows, run_whole
from broca.model.measured import measured_once, random_tokens

Way = Callable[[LanguageModel, BasePass, int], Tensor]

WAYS: dict[str, Way] = {"beside": run_last_tokens, "rows": run_rows, "whole": run_whole}
_LENGTHS = (17, 11)  # of two random prompts
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 0.2  # of log P, in float32 and in half precision


def copies_of(model: LanguageModel) -> Way:
    """The way to run copies of each last token, by whatever hooks are active.

    To be asked for while no hook is. The function found takes model, base pass and number of
    copies, and gives float32 [prompt, copy, vocab]. A hook at a site sees the copies as
    [prompt, copy, neuron], [copy of a prompt, 1, neuron] or [copy of a prompt, token, neuron];
    :func:`at_last` serves all three.

    Raises:
        EffectError: If no way holds.
    """
    return _find(model)


def at_last(values: Tensor, changes: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Values at a site with each copy's own change at its last token.

    Args:
        values: As a hook sees them, see :func:`copies_of`.
        changes: One row per copy, prompt by prompt, [prompt * copy, neuron]; neurons behind the
            layer's end are left out.
        change: Gives new values of the old ones and their changes, the same shape each.
    """
    width = values.shape[-1]
    changes = changes[:, :width].to(values.device)
    if values.shape[0] * values.shape[1] == len(changes):
        return change(values, changes.view(values.shape))
    last = change(values[:, -1:], changes.unsqueeze(1))
    return torch.cat([values[:, :-1], last], dim=1)


@measured_once
@torch.no_grad()
def _find(model: LanguageModel) -> Way:
    lengths = _LENGTHS if model.drive.pads else _LENGTHS[:1] * 2
    tokens = random_tokens(model, lengths)
    base = base_pass(model, model.pad(tokens))
    layer, width = next((n, w) for n, w in enumerate(model.identity.layer_widths("hidden")) if w)
    factors = torch.ones(4, width, device=base.logits.device)
    factors[1::2] = 0.5  # the second copy of each prompt

    def halved(rows: Tensor):
        return model.touch("hidden", layer, lambda v: at_last(v, rows.to(v), torch.mul))

    wanted = torch.stack([_ordinary(model, base, halved(factors[n::2])) for n in range(2)], 1)
    failed = []
    for name, way in WAYS.items():
        try:
            with halved(factors):
                found = way(model, base, 2).log_softmax(-1)
        except Exception as error:  # whatever a family raises, the way is not for it
            if is_out_of_memory(error):
                raise
            failed.append(f"{name}: {type(error).__name__}")
            continue
        largest = float((found - wanted).abs().max().nan_to_num(nan=torch.inf))
        if largest <= (_TOLERANCE if model.dtype == torch.float32 else _HALF_TOLERANCE):
            return way
        failed.append(f"{name}: off by {largest:.3g}")
    raise EffectError(
        f"Last tokens of {model.name} cannot be run by themselves",
        "; ".join(failed),
        "Load the model in float32, or with attn_implementation='eager'.",
    )


def _ordinary(model: LanguageModel, base: BasePass, hook: AbstractContextManager[None]) -> Tensor:
    with hook:
        return model.logits(base.batch)[:, -1].log_softmax(-1)
