"""What one intervention does at one site and layer: an edit."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from broca.interventions.kinds import Deactivate, Intervention, Positions

Rows = int | slice | None
"""One row of a batch, a block of rows, or all."""


@dataclass(frozen=True)
class Edit:
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

    def behind(self, start: int) -> Edit | None:
        """The same of neurons from an index on, counted from there; None for none."""
        keep = self.neurons >= start
        if not keep.any():
            return None
        return replace(self, neurons=self.neurons[keep] - start, index=self.index[keep])


def acted_on(
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
