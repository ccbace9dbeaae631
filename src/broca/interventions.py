"""Switch neurons off, scale them or fix them: for a whole batch, or differently per row.

1. Every intervention names neurons, a change, and the positions at which it is made.
2. ``intervene(model, ...)`` sets one hook per (site, layer) touched and removes it whatever
   happens.
3. Positions are counted from the end of each prompt, so that left padding and answer tokens
   after the prompt change nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from broca.errors import InterventionError
from broca.model import LanguageModel
from broca.model.experts import Slots
from broca.neurons import NeuronSet

Positions = str | tuple[int, ...]

MASKED = 1 << 16
"""Values up to which all of them are passed through a mask: fewer than finding a few costs."""


@dataclass(frozen=True)
class Scale:
    """Multiply neurons by a factor.

    Attributes:
        neurons: Which neurons.
        factor: 0 switches off, 1 changes nothing, 2 doubles.
        positions: ``"all"`` (prompt and generation), ``"last"`` (the prompt's last token),
            ``"answer"`` (that one and every answer token after it: wherever an answer's next
            token is read), or positions counted from the prompt's end, e.g. ``(-1, -2)``.

    Raises:
        InterventionError: If the factor is not finite or a position is not negative.
    """

    neurons: NeuronSet
    factor: float
    positions: Positions = "all"

    def __post_init__(self) -> None:
        _check(self.factor, self.positions)

    def change(self, values: Tensor, index: Tensor) -> Tensor:
        """New values of the neurons, from their values [..., neuron]."""
        return values * self.factor


@dataclass(frozen=True)
class Deactivate(Scale):
    """Set neurons to 0 (paper B's deactivation, at every position by default)."""

    factor: float = 0.0

    def __init__(self, neurons: NeuronSet, positions: Positions = "all") -> None:
        object.__setattr__(self, "neurons", neurons)
        object.__setattr__(self, "factor", 0.0)
        object.__setattr__(self, "positions", positions)
        self.__post_init__()

    def change(self, values: Tensor, index: Tensor) -> Tensor:
        """Zeros, whatever the values (an infinite value times 0 would not be 0)."""
        return torch.zeros_like(values)


@dataclass(frozen=True)
class Fix:
    """Set neurons to a value: one for all, or one per neuron in the set's order.

    Attributes:
        neurons: Which neurons.
        value: A number, or one per neuron.
        positions: See :class:`Scale`.

    Raises:
        InterventionError: If the values do not fit the set or are not finite.
    """

    neurons: NeuronSet
    value: float | tuple[float, ...]
    positions: Positions = "all"

    def __post_init__(self) -> None:
        if isinstance(self.value, tuple) and len(self.value) != len(self.neurons):
            raise InterventionError(
                f"{len(self.value)} values for {len(self.neurons)} neurons",
                mend="Give one value, or one per neuron in the set's order.",
            )
        _check(self.value, self.positions)

    def change(self, values: Tensor, index: Tensor) -> Tensor:
        """The fixed values, [..., neuron]."""
        fixed = torch.as_tensor(self.value, dtype=values.dtype, device=values.device)
        return (fixed[index] if fixed.dim() else fixed).expand_as(values)


Intervention = Scale | Fix


def _check(numbers: float | tuple[float, ...], positions: Positions) -> None:
    if not np.all(np.isfinite(numbers)):
        raise InterventionError(f"{numbers} is not a finite number")
    named = positions in ("all", "last", "answer")
    if not named and (isinstance(positions, str) or not positions or max(positions) >= 0):
        raise InterventionError(
            f"Cannot intervene at positions {positions!r}",
            mend="Use 'all', 'last', 'answer' or negative positions counted from the prompt's end.",
        )


def first_layer(interventions: Sequence[Intervention | None]) -> int | None:
    """The lowest layer that any of them edits, None if none edits anything."""
    lowest = [int(i.neurons.layers.min()) for i in interventions if i and len(i.neurons)]
    return min(lowest, default=None)


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
            at_slots = _make_slots_apply(model, layer, listed, after_prompt, prompt_active)
            stack.enter_context(model.touch_apart(site, layer, at_slots, apply))
        yield


Rows = int | slice | None
"""One row of a batch, a block of rows, or all."""


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


@dataclass(frozen=True)
class _Edit:
    row: Rows
    intervention: Intervention
    neurons: Tensor  # indices at this site and layer
    index: Tensor  # their ranks in the set

    @property
    def positions(self) -> Positions:
        """Where it is made."""
        return self.intervention.positions

    def make(self, values: Tensor, tokens: slice | list[int]) -> None:
        """Change all rows of [prompt, token, neuron], or those of the block, in place."""
        neurons = self.neurons.to(values.device)
        mine = values[self.row] if isinstance(self.row, slice) else values
        if isinstance(tokens, slice) and isinstance(self.intervention, Deactivate):
            mine[:, tokens].index_fill_(-1, neurons, 0.0)
            return
        here = mine[:, tokens]
        here[..., neurons] = self.intervention.change(here[..., neurons], self.index)
        if not isinstance(tokens, slice):  # a copy, no view
            mine[:, tokens] = here

    def behind(self, start: int) -> _Edit | None:
        """The same of neurons from an index on, counted from there; None for none."""
        keep = self.neurons >= start
        if not keep.any():
            return None
        return replace(self, neurons=self.neurons[keep] - start, index=self.index[keep])


def _edits_by_place(
    made: Sequence[tuple[Rows, Intervention]],
) -> dict[tuple[str, int], list[_Edit]]:
    edits: dict[tuple[str, int], list[_Edit]] = defaultdict(list)
    for rows, one in made:
        for (site, layer), (neurons, ranks) in one.neurons.places.items():
            tensors = torch.from_numpy(neurons), torch.from_numpy(ranks)
            edits[site, layer].append(_Edit(rows, one, *tensors))
    return edits


def _make_apply(edits: list[_Edit], after_prompt: int, prompt_active: bool):
    everywhere = [edit for edit in edits if not isinstance(edit.row, int)]
    in_rows = _grouped([edit for edit in edits if isinstance(edit.row, int)])

    def apply(tensor: Tensor) -> Tensor | None:
        new = None
        for edit in (*everywhere, *in_rows):
            tokens = _tokens(edit.positions, tensor, after_prompt, prompt_active)
            if tokens is None:
                continue
            if new is None:
                new = tensor.clone()
            edit.make(new, tokens)
        return new

    return apply


@dataclass
class _RowEdits:
    """Edits of single rows at the same positions, made all at once: value -> factor · value + put.

    Attributes:
        positions: Where.
        rows, neurons, factors, put: One of each per edited neuron of a row; no factors where all
            are 0, nothing put where only zeros are.
    """

    positions: Positions
    rows: Tensor
    neurons: Tensor
    factors: Tensor | None
    put: Tensor | None
    _cast: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor, Tensor | None, Tensor]] = (
        field(default_factory=dict)
    )
    _masks: dict[tuple[torch.device, int], Tensor] = field(default_factory=dict)

    def make(self, values: Tensor, tokens: slice | list[int]) -> None:
        """Change [prompt, token, neuron] in place."""
        off = self.factors is None and self.put is None
        if off and isinstance(tokens, slice) and values.numel() <= MASKED:
            values[:, tokens].masked_fill_(self._mask(values), 0.0)
            return
        rows, neurons, factors, put = self._as(values)
        if isinstance(tokens, slice):
            here, own = values[:, tokens].transpose(1, 2), (rows, neurons)
        else:
            at = torch.tensor(tokens, device=values.device)
            here, own = values.transpose(1, 2), (rows[:, None], neurons[:, None], at)
        if factors is not None:
            # an infinite value times 0 would not be 0
            put = torch.where(factors == 0, put, here[own] * factors + put)
        here[own] = put

    def _mask(self, values: Tensor) -> Tensor:
        """Where the rows are edited, [prompt, 1, neuron]; once for all passes of so many rows."""
        key = values.device, len(values)
        if key not in self._masks:
            mask = torch.zeros(len(values), 1, values.shape[-1], dtype=torch.bool)
            mask[self.rows, 0, self.neurons] = True
            self._masks[key] = mask.to(values.device)
        return self._masks[key]

    def _as(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Rows and neurons; factors and what is put, [neuron, token]; once for all passes."""
        key = values.device, values.dtype
        if key not in self._cast:
            factors = None if self.factors is None else self.factors.to(values)[:, None]
            rows, neurons = self.rows.to(values.device), self.neurons.to(values.device)
            put = values.new_zeros(len(rows)) if self.put is None else self.put.to(values)
            self._cast[key] = rows, neurons, factors, put[:, None]
        return self._cast[key]


def _grouped(edits: list[_Edit]) -> list[_RowEdits]:
    by_positions: dict[Positions, list[_Edit]] = defaultdict(list)
    for edit in edits:
        by_positions[edit.positions].append(edit)
    return [_row_edits(positions, listed) for positions, listed in by_positions.items()]


def _row_edits(positions: Positions, edits: list[_Edit]) -> _RowEdits:
    lengths = [len(edit.neurons) for edit in edits]
    kinds = [edit.intervention for edit in edits]
    factors = [float(one.factor) if isinstance(one, Scale) else 0.0 for one in kinds]
    fixed = any(isinstance(one, Fix) for one in kinds)
    return _RowEdits(
        positions,
        torch.from_numpy(np.repeat([edit.row for edit in edits], lengths)),  # type: ignore[arg-type]
        torch.cat([edit.neurons for edit in edits]),
        torch.from_numpy(np.repeat(factors, lengths)) if any(factors) else None,
        torch.from_numpy(np.concatenate([_put(edit) for edit in edits])) if fixed else None,
    )


def _put(edit: _Edit) -> np.ndarray:
    """What an edit puts at each neuron or adds to it, float64 [neuron]."""
    one, n = edit.intervention, len(edit.neurons)
    if isinstance(one, Scale):
        return np.zeros(n)
    fixed = np.asarray(one.value, dtype=np.float64)
    return fixed[edit.index.numpy()] if fixed.ndim else np.full(n, fixed)


def _make_slots_apply(
    model: LanguageModel, layer: int, edits: list[_Edit], after_prompt: int, prompt_active: bool
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
            at = _tokens(edit.intervention.positions, like, after_prompt, prompt_active)
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


def _tables(edit: _Edit, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Which neurons of the experts an edit names, and their ranks in its set, [expert, neuron]."""
    inside = edit.neurons < shape[0] * shape[1]
    chosen = torch.zeros(shape[0] * shape[1], dtype=torch.bool)
    ranks = torch.zeros(shape[0] * shape[1], dtype=torch.long)
    chosen[edit.neurons[inside]] = True
    ranks[edit.neurons[inside]] = edit.index[inside]
    return chosen.view(shape), ranks.view(shape)


def _tokens(
    positions: Positions, tensor: Tensor, after_prompt: int, prompt_active: bool
) -> slice | list[int] | None:
    """Token positions of a pass at which to act, None for none."""
    if positions == "all" or (positions == "answer" and not prompt_active):
        return slice(None)
    if not prompt_active:
        return None
    end = tensor.shape[1] - after_prompt
    if positions == "answer":
        return slice(end - 1, None)
    wanted = (-1,) if positions == "last" else positions
    return [end + position for position in wanted if end + position >= 0]  # type: ignore[operator]
