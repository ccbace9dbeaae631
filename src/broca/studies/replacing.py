"""What is put in neurons' place: zero (the paper), their mean, or values from elsewhere.

1. **zero**: no replacement at all, `Deactivate`.
2. **mean**: each neuron's mean response over all recorded prompts: detection prompts of relations,
   own prompts of queries.
3. **resample**: each neuron's response to one prompt of **another** relation or field, the same
   prompt for all neurons of a set, drawn by the set: what the neurons would say if something else
   were asked. The hardest of the three, since the values are ones the model knows.

Relations: responses are those the neurons were found with, pooled over tokens (`pooling`), and are
put at every position. Queries: those at the position where the answer is read. METHODS §7; ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from broca.facts.seeding import stable_number
from broca.neurons import NeuronSet
from broca.responses import Responses

Kind = Literal["zero", "mean", "resample"]
KINDS: tuple[Kind, ...] = ("zero", "mean", "resample")


@dataclass(frozen=True)
class Replaced:
    """Values from recorded responses; see the module.

    Attributes:
        kind: "mean" or "resample".
        responses: Responses to the detection prompts.
        labels: Relation or field of each of these prompts.
        seed: Of the drawn prompts.
        owners: Beginning of a set's name -> the label whose prompts are none of another; by
            default sets begin with the name of their label.
    """

    kind: Kind
    responses: Responses
    labels: Sequence[str]
    seed: int
    owners: Mapping[str, str] | None = None

    def values(self, neurons: NeuronSet) -> tuple[str, tuple[float, ...]]:
        """See `broca.studies.study.Replacement`."""
        if self.kind == "mean":
            means = self._means[self.responses.index.flatten(neurons)]
            return f"mean {self.responses.key[:8]}", tuple(means.tolist())
        owners = {name: name for name in self.labels} if self.owners is None else self.owners
        known = (name for name in owners if neurons.name.startswith(name))
        own = owners.get(max(known, key=len, default=""), "")
        others = [row for row, label in enumerate(self.labels) if label != own]
        row = others[stable_number(self.seed, "resample", neurons.digest) % len(others)]
        name = f"resample {self.responses.key[:8]} {self.responses.prompt_ids[row]}"
        return name, tuple(self._response(row, neurons).tolist())

    @cached_property
    def _means(self) -> np.ndarray:
        return self.responses.means()

    def _response(self, row: int, neurons: NeuronSet) -> np.ndarray:
        """Responses of a set's neurons to one prompt, [neuron]."""
        found = np.empty(len(neurons))
        for site, layer in neurons.counts():
            ranks = neurons.where(site, layer)
            block = self.responses.block(site, layer)
            found[ranks] = np.asarray(block[row, neurons.indices[ranks]], float)
        return np.nan_to_num(found)  # NaN: never at the expert
