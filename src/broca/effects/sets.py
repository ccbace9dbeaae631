"""The joint effect of a ranking: P of the answer with its first k neurons replaced, k growing.

Single effects need not add up: two neurons that each carry the answer hide each other. A ranking
is therefore also judged by what its prefixes do together. Each size is a copy of the last token
(:func:`broca.model.branches.run_last_tokens`), all sizes of a prompt in one pass.

``area`` sums a curve up: the mean of P / P before over log k, so that 1 is a ranking without
effect and 0 one whose first neuron already removes the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from broca.effects.aims import Aim, PromptLike, TargetLike, listed, make_aims
from broca.effects.driving import at_last, copies_of
from broca.effects.replacement import Replacements
from broca.errors import EffectError
from broca.model import LanguageModel
from broca.model.branches import base_pass
from broca.neurons import NeuronIndex, NeuronSet


@dataclass(frozen=True, eq=False)
class SetEffects:
    """What growing prefixes of rankings do to prompts.

    Attributes:
        prompt_ids: The prompts.
        sizes: Sizes of the prefixes, rising.
        after: Objective with the first k neurons replaced, float64 [prompt, size].
        before: The same with nothing replaced, [prompt].
    """

    prompt_ids: tuple[str, ...]
    sizes: tuple[int, ...]
    after: np.ndarray
    before: np.ndarray

    @property
    def share_left(self) -> np.ndarray:
        """P after / P before, [prompt, size]."""
        return np.exp(self.after - self.before[:, None])

    @property
    def area(self) -> np.ndarray:
        """Mean of P / P before over log k, [prompt]."""
        left = self.share_left
        if len(self.sizes) == 1:
            return left[:, 0]
        log_k = np.log(self.sizes)
        return np.trapezoid(left, log_k, axis=1) / (log_k[-1] - log_k[0])


def ablate_sets(
    model: LanguageModel,
    prompts: Sequence[PromptLike],
    rankings: NeuronSet | Sequence[NeuronSet],
    sizes: Sequence[int],
    replacement: str = "zero",
    *,
    reference: Sequence[PromptLike] | None = None,
    target: TargetLike = "answer",
    seed: int = 0,
) -> SetEffects:
    """Replace the first k hidden neurons of a ranking together, at the last position.

    Args:
        model: The model under study.
        prompts: Prompts, texts or lists of token ids.
        rankings: One ranking for all prompts, or one per prompt; neurons of site ``hidden``.
        sizes: Numbers of neurons, rising.
        replacement, reference, target, seed: As in :func:`broca.ablate_each`.

    Raises:
        EffectError: If sizes do not rise from 1, exceed a ranking, or a ranking holds neurons of
            another site; and as in :func:`broca.ablate_each`.
    """
    prompts = listed(prompts)
    several = [rankings] * len(prompts) if isinstance(rankings, NeuronSet) else list(rankings)
    _check(model, prompts, several, sizes)
    aims = make_aims(model, prompts, target)
    replacements = Replacements(model, replacement, reference, seed)
    after = np.empty((len(prompts), len(sizes)))
    before = np.empty(len(prompts))
    for row, (prompt, ranking) in enumerate(zip(prompts, several, strict=True)):
        values = replacements.values(prompt, aims[row][0])
        ranks = _ranks(model, ranking)
        joint = [_joint(model, aim, ranks, sizes, values) for aim in aims[row]]
        before[row] = sum(first for first, _ in joint)
        after[row] = np.sum([rest for _, rest in joint], axis=0)
    return SetEffects(tuple(listed[0].id for listed in aims), tuple(sizes), after, before)


def _check(
    model: LanguageModel,
    prompts: Sequence[PromptLike],
    rankings: Sequence[NeuronSet],
    sizes: Sequence[int],
) -> None:
    if len(rankings) != len(prompts):
        raise EffectError(f"There are {len(prompts)} prompts and {len(rankings)} rankings")
    if not sizes or sizes[0] < 1 or any(a >= b for a, b in pairwise(sizes)):
        raise EffectError("Sizes must rise from at least 1", str(list(sizes)))
    for ranking in rankings:
        ranking.check(model.identity)
        if len(ranking.only(site="hidden")) != len(ranking):
            raise EffectError("Sets are replaced at the site 'hidden'", ranking.name or None)
        if sizes[-1] > len(ranking):
            raise EffectError(
                f"{sizes[-1]} neurons were asked for and the ranking has {len(ranking)}",
                ranking.name or None,
            )


def _ranks(model: LanguageModel, ranking: NeuronSet) -> Tensor:
    """Rank of every neuron, [layer, neuron]; beyond all sizes where it is not ranked."""
    index = NeuronIndex(model.identity, ("hidden",))
    unranked = np.iinfo(np.int64).max
    ranks = np.full(len(index), unranked)
    ranks[index.flatten(ranking)] = np.arange(len(ranking))
    return torch.from_numpy(index.as_grid(ranks, fill=unranked))


@torch.no_grad()
def _joint(
    model: LanguageModel, aim: Aim, ranks: Tensor, sizes: Sequence[int], values: Tensor
) -> tuple[float, np.ndarray]:
    run = copies_of(model)
    base = base_pass(model, model.pad([aim.tokens]))
    off = ranks.unsqueeze(1) < torch.tensor(sizes)[:, None]  # [layer, size, neuron]
    with ExitStack() as stack:
        for layer in range(model.n_layers):

            def replace(hidden: Tensor, layer: int = layer) -> Tensor:
                there = values[layer, : hidden.shape[-1]].to(hidden)
                return at_last(hidden, off[layer], lambda old, mask: torch.where(mask, there, old))

            if off[layer].any():
                stack.enter_context(model.touch("hidden", layer, replace))
        logits = run(model, base, len(sizes))[0]
    return float(aim.read(base.logits[0])), aim.read(logits).cpu().numpy()
