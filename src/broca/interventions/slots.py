"""Edits of the neurons of experts, whose values exist only where a token was routed."""

from __future__ import annotations

import torch
from torch import Tensor

from broca.interventions.edits import Edit, acted_on
from broca.model import LanguageModel
from broca.model.experts import Slots


def make_slots_apply(
    model: LanguageModel, layer: int, edits: list[Edit], after_prompt: int, prompt_active: bool
):
    """The same on values [slot, neuron of the expert]: what is not reached costs nothing."""
    experts = model.block(layer).experts
    assert experts is not None
    shape = (experts.number, experts.width)
    tables = [(edit, *_tables(edit, shape)) for edit in edits]

    def apply(values: Tensor, slots: Slots) -> Tensor | None:
        n_tokens = slots.n_tokens // model.rows
        rows, places = slots.tokens // n_tokens, slots.tokens % n_tokens
        reached = values.any(-1) if experts.dense else None
        for edit, chosen, ranks in tables:
            like = torch.empty(1, n_tokens, 1, device="meta")
            at = acted_on(edit.intervention.positions, like, after_prompt, prompt_active)
            if at is None:
                continue
            here = torch.zeros(n_tokens, dtype=torch.bool, device=values.device)
            here[at] = True
            active = here[places]
            if isinstance(edit.row, int):
                active = active & (rows == edit.row)
            elif edit.row is not None:
                active = active & (rows >= edit.row.start) & (rows < edit.row.stop)
            if reached is not None:
                active = active & reached
            hit = chosen.to(values.device)[slots.experts] & active[:, None]
            new = edit.intervention.change(values, ranks.to(values.device)[slots.experts])
            values = torch.where(hit, new, values)
        return values

    return apply


def _tables(edit: Edit, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Which neurons of the experts an edit names, and their ranks in its set, [expert, neuron]."""
    inside = edit.neurons < shape[0] * shape[1]
    chosen = torch.zeros(shape[0] * shape[1], dtype=torch.bool)
    ranks = torch.zeros(shape[0] * shape[1], dtype=torch.long)
    chosen[edit.neurons[inside]] = True
    ranks[edit.neurons[inside]] = edit.index[inside]
    return chosen.view(shape), ranks.view(shape)
