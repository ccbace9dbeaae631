"""Hooks that make interventions in every forward pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from broca.errors import InterventionError
from broca.interventions.edits import Edit, Rows, acted_on
from broca.interventions.kinds import Intervention
from broca.interventions.rows import grouped
from broca.interventions.slots import make_slots_apply
from broca.model import LanguageModel


@contextmanager
def intervene(
    model: LanguageModel,
    *interventions: Intervention | None,
    rows: Sequence[Intervention | None] | None = None,
    blocks: Sequence[tuple[int, Intervention | None]] | None = None,
    after_prompt: int = 0,
    prompt_active: bool = True,
) -> Iterator[None]:
    """Make interventions in every forward pass inside the ``with`` block.

    Args:
        model: The model under study; its weights are never changed.
        interventions: Made on every row, in this order.
        rows: One intervention (or None) per row of the batch, instead.
        blocks: How many rows, and the one intervention (or None) made on them, for one block of
            rows after the other, instead.
        after_prompt: Tokens of the pass that follow the prompt's end (answer tokens).
        prompt_active: False in passes that hold no prompt token (later steps of a generation):
            only interventions at all and at answer positions act there.

    Raises:
        InterventionError: If both ways of naming are used, or neither.
        NeuronError: If a set belongs to a model of another shape.

    Warns:
        WeightsDifferWarning: If a set was found in other weights of the same shape.
    """
    if bool(interventions) + (rows is not None) + (blocks is not None) != 1:
        raise InterventionError(
            "Name interventions for all rows, or one per row or block of rows",
            mend="Use one of the ways.",
        )
    made: list[tuple[Rows, Intervention]] = (
        [(number, one) for number, one in enumerate(rows) if one is not None]
        if rows is not None
        else _in_blocks(blocks)
        if blocks is not None
        else [(None, one) for one in interventions if one is not None]
    )
    _ = model.drive  # measured once, and of the model as it is
    checked: set[int] = set()
    for _, one in made:
        if id(one.neurons) not in checked:
            checked.add(id(one.neurons))
            one.neurons.check(model.identity)
    edits = _edits_by_place(made)
    with ExitStack() as stack:
        for (site, layer), listed in edits.items():
            routed, _ = model.block(layer).width(site) or (0, 0)
            behind = [edit.behind(routed) for edit in listed] if routed else listed
            ordinary = [edit for edit in behind if edit is not None]
            apply = _make_apply(ordinary, after_prompt, prompt_active)
            if not routed:
                stack.enter_context(model.touch(site, layer, apply))
                continue
            at_slots = make_slots_apply(model, layer, listed, after_prompt, prompt_active)
            stack.enter_context(model.touch_apart(site, layer, at_slots, apply))
        yield


def _in_blocks(
    blocks: Sequence[tuple[int, Intervention | None]],
) -> list[tuple[Rows, Intervention]]:
    made: list[tuple[Rows, Intervention]] = []
    start = 0
    for n_rows, one in blocks:
        if one is not None and n_rows:
            made.append((slice(start, start + n_rows), one))
        start += n_rows
    return made


def _edits_by_place(
    made: Sequence[tuple[Rows, Intervention]],
) -> dict[tuple[str, int], list[Edit]]:
    edits: dict[tuple[str, int], list[Edit]] = defaultdict(list)
    for rows, one in made:
        for (site, layer), (neurons, ranks) in one.neurons.places.items():
            tensors = torch.from_numpy(neurons), torch.from_numpy(ranks)
            edits[site, layer].append(Edit(rows, one, *tensors))
    return edits


def _make_apply(edits: list[Edit], after_prompt: int, prompt_active: bool):
    everywhere = [edit for edit in edits if not isinstance(edit.row, int)]
    in_rows = grouped([edit for edit in edits if isinstance(edit.row, int)])

    def apply(tensor: Tensor) -> Tensor | None:
        new = None
        for edit in (*everywhere, *in_rows):
            tokens = acted_on(edit.positions, tensor, after_prompt, prompt_active)
            if tokens is None:
                continue
            if new is None:
                new = tensor.clone()
            edit.make(new, tokens)
        return new

    return apply
