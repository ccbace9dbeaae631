"""What a mask is learned for: the loss of answers with neurons multiplied by it.

Masks act at the last position (:class:`LastTokens`), where the family allows on copies of the last
token over the prefix's keys and values (:mod:`broca.effects.driving`): a step then costs one token
per prompt, forward and backward, whatever the prompt's length. Or at every position
(:class:`WholePrompts`), as published: a step costs whole prompts.

- *keep*: -log P of the answers with m * v: the fewest neurons that still say it.
- *destroy*: log P of the answers with (1 - m) * v, not below a floor: the fewest neurons without
  which it is not said.

With other prompts their answers must stay as they are: ``others_weight`` times what they lose when
the neurons found are taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from broca.effects.aims import Aim, read_all
from broca.effects.driving import at_last, copies_of
from broca.model import LanguageModel, TokenBatch
from broca.model.branches import BasePass, base_pass
from broca.neurons import NeuronIndex

_BATCH = 16


class Group(Protocol):
    """Answers read under masks."""

    def before(self) -> Tensor:
        """Log P of each mask's answers with nothing masked, summed, [mask]."""
        ...

    def log_p(self, masks: Tensor) -> Tensor:
        """Log P of each mask's answers under masks [mask, neuron], summed, [mask]."""
        ...


def make_group(
    model: LanguageModel, aims: Sequence[Sequence[Aim]], shared: bool, positions: str
) -> Group:
    """A group of prompts' aims.

    Args:
        model: The model.
        aims: Per prompt, one aim per token.
        shared: Whether all prompts have one mask; each has its own otherwise.
        positions: Where masks act, ``last`` or ``all``.
    """
    return (LastTokens if positions == "last" else WholePrompts).of(model, aims, shared)


@dataclass(frozen=True)
class LastTokens:
    """Answers read under masks at the position that predicts each of their tokens.

    Attributes:
        model: The model under study.
        passes: Base passes of some aims each, with the aims and their mask's number.
    """

    model: LanguageModel
    passes: Sequence[tuple[BasePass, Sequence[Aim], Tensor]]

    @classmethod
    def of(cls, model: LanguageModel, aims: Sequence[Sequence[Aim]], shared: bool) -> LastTokens:
        """See :func:`make_group`."""
        flat = [(aim, 0 if shared else n) for n, listed in enumerate(aims) for aim in listed]
        passes = []
        for rows in model.batches([len(aim.tokens) for aim, _ in flat], _BATCH):
            part = [flat[row] for row in rows]
            base = base_pass(model, model.pad([aim.tokens for aim, _ in part]))
            passes.append((base, [aim for aim, _ in part], torch.tensor([n for _, n in part])))
        return cls(model, passes)

    def before(self) -> Tensor:
        """See :class:`Group`."""
        return self._summed([read_all(aims, base.logits) for base, aims, _ in self.passes])

    def log_p(self, masks: Tensor) -> Tensor:
        """See :class:`Group`."""
        run = copies_of(self.model)
        found = []
        for base, aims, number in self.passes:
            with _masked(self.model, masks[number], _at_last):
                found.append(read_all(aims, run(self.model, base, 1)[:, 0]))
        return self._summed(found)

    def _summed(self, parts: Sequence[Tensor]) -> Tensor:
        return _by_mask([number for _, _, number in self.passes], parts)


@dataclass(frozen=True)
class WholePrompts:
    """Answers read under masks at every position of prompt and answer.

    Attributes:
        model: The model under study.
        batches: Prompts with their answers but for the last token, the answers' aims, and their
            mask's number.
    """

    model: LanguageModel
    batches: Sequence[tuple[TokenBatch, Sequence[Sequence[Aim]], Tensor]]

    @classmethod
    def of(cls, model: LanguageModel, aims: Sequence[Sequence[Aim]], shared: bool) -> WholePrompts:
        """See :func:`make_group`."""
        tokens = [listed[-1].tokens for listed in aims]
        batches = []
        for rows in model.batches([len(ids) for ids in tokens], _BATCH):
            number = torch.tensor([0 if shared else row for row in rows])
            batches.append((model.pad([tokens[i] for i in rows]), [aims[i] for i in rows], number))
        return cls(model, batches)

    @torch.no_grad()
    def before(self) -> Tensor:
        """See :class:`Group`."""
        return self._summed([self._read(batch, aims) for batch, aims, _ in self.batches])

    def log_p(self, masks: Tensor) -> Tensor:
        """See :class:`Group`."""
        found = []
        for batch, aims, number in self.batches:
            with _masked(self.model, masks[number], _everywhere):
                found.append(self._read(batch, aims))
        return self._summed(found)

    def _read(self, batch: TokenBatch, aims: Sequence[Sequence[Aim]]) -> Tensor:
        logits = self.model.forward(
            input_ids=batch.ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
            logits_to_keep=max(map(len, aims)),
        )
        parts = [
            read_all(listed, row[-len(listed) :]).sum()
            for listed, row in zip(aims, logits, strict=True)
        ]
        return torch.stack(parts)

    def _summed(self, parts: Sequence[Tensor]) -> Tensor:
        return _by_mask([number for _, _, number in self.batches], parts)


def _by_mask(numbers: Sequence[Tensor], parts: Sequence[Tensor]) -> Tensor:
    """Values of prompts summed over those of each mask, [mask]."""
    number, values = torch.cat(list(numbers)), torch.cat(list(parts)).cpu()
    zeros = torch.zeros(int(number.max()) + 1, dtype=values.dtype)
    return zeros.index_add(0, number, values)


@contextmanager
def _masked(model: LanguageModel, masks: Tensor, multiply: Callable[[Tensor, Tensor], Tensor]):
    """Multiply hidden values by masks [prompt, neuron], each in the way of its group."""
    with ExitStack() as stack:
        for _, layer, place in NeuronIndex(model.identity, ("hidden",)).blocks():

            def change(values: Tensor, place: slice = place) -> Tensor:
                return multiply(values, masks[:, place].to(values))

            stack.enter_context(model.touch("hidden", layer, change))
        yield


def _at_last(values: Tensor, masks: Tensor) -> Tensor:
    return at_last(values, masks, torch.mul)


def _everywhere(values: Tensor, masks: Tensor) -> Tensor:
    return values * masks.unsqueeze(1)
