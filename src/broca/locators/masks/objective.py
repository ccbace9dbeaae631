"""What a mask is learned for: the loss of answers with neurons multiplied by it.

Masks act at the last position, where the family allows on copies of the last token over the
prefix's keys and values (:mod:`broca.effects.driving`): a step then costs one token per prompt,
forward and backward, whatever the prompt's length.

- *keep*: -log P of the answers with m * v: the fewest neurons that still say it.
- *destroy*: log P of the answers with (1 - m) * v, not below a floor: the fewest neurons without
  which it is not said.

With other prompts their answers must stay as they are: ``others_weight`` times what they lose when
the neurons found are taken away.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from broca.effects.aims import Aim, read_all
from broca.effects.driving import at_last, copies_of
from broca.model import LanguageModel
from broca.model.branches import BasePass, base_pass
from broca.neurons import NeuronIndex

_BATCH = 16


@dataclass(frozen=True)
class Group:
    """Answers read under masks.

    Attributes:
        model: The model under study.
        passes: Base passes of some aims each, with the aims and their mask's number.
    """

    model: LanguageModel
    passes: Sequence[tuple[BasePass, Sequence[Aim], Tensor]]

    @classmethod
    def of(cls, model: LanguageModel, aims: Sequence[Sequence[Aim]], shared: bool) -> Group:
        """Make a group of prompts' aims.

        Args:
            model: The model.
            aims: Per prompt, one aim per token.
            shared: Whether all prompts have one mask; each has its own otherwise.
        """
        flat = [(aim, 0 if shared else n) for n, listed in enumerate(aims) for aim in listed]
        passes = []
        for rows in model.batches([len(aim.tokens) for aim, _ in flat], _BATCH):
            part = [flat[row] for row in rows]
            base = base_pass(model, model.pad([aim.tokens for aim, _ in part]))
            passes.append((base, [aim for aim, _ in part], torch.tensor([n for _, n in part])))
        return cls(model, passes)

    def before(self) -> Tensor:
        """Log P of each mask's answers with nothing masked, summed, [mask]."""
        return self._summed([read_all(aims, base.logits) for base, aims, _ in self.passes])

    def log_p(self, masks: Tensor) -> Tensor:
        """Log P of each mask's answers under masks [mask, neuron], summed, [mask]."""
        run = copies_of(self.model)
        found = []
        for base, aims, number in self.passes:
            with _masked(self.model, masks[number]):
                found.append(read_all(aims, run(self.model, base, 1)[:, 0]))
        return self._summed(found)

    def _summed(self, parts: Sequence[Tensor]) -> Tensor:
        numbers = torch.cat([number for _, _, number in self.passes])
        values = torch.cat(list(parts)).cpu()
        zeros = torch.zeros(int(numbers.max()) + 1, dtype=values.dtype)
        return zeros.index_add(0, numbers, values)


@contextmanager
def _masked(model: LanguageModel, masks: Tensor):
    """Multiply hidden values at the last token by masks [prompt, neuron]."""
    with ExitStack() as stack:
        for _, layer, place in NeuronIndex(model.identity, ("hidden",)).blocks():

            def multiply(values: Tensor, place: slice = place) -> Tensor:
                return at_last(values, masks[:, place].to(values), torch.mul)

            stack.enter_context(model.touch("hidden", layer, multiply))
        yield
