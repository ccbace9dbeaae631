"""The change of value vectors that says a new object and spares other answers, by descent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor

from broca.answers import BORDERS, answer_tokens
from broca.edits.config import FactEditConfig
from broca.edits.weights import value_columns
from broca.errors import EditError
from broca.model import LanguageModel
from broca.model.resume import passed_over
from broca.neurons import NeuronSet
from broca.prompts import Prompt


class Problem:
    """Log P of the new object and the divergence elsewhere, as functions of the change."""

    def __init__(
        self,
        model: LanguageModel,
        neurons: NeuronSet,
        own: Sequence[Prompt],
        others: Sequence[Prompt],
        border: str,
    ) -> None:
        self.model = model
        self.lengths = value_columns(model, neurons).norm(dim=1).clamp(min=1e-12)
        self.places = [
            (layer, np.flatnonzero(neurons.layers == layer))
            for layer in sorted(set(neurons.layers.tolist()))
        ]
        self.indices = {
            l: torch.from_numpy(neurons.indices[r].astype(np.int64)) for l, r in self.places
        }
        answers = [_tokens(model, prompt, border) for prompt in own]
        prompts = model.encode([prompt.text for prompt in [*own, *others]])
        tails = [*(answer[:-1] for answer in answers), *([()] * len(others))]
        self.batch = model.pad([[*ids, *tail] for ids, tail in zip(prompts, tails, strict=True)])
        self.kept = max(len(answer) for answer in answers)
        self.answers = torch.zeros(len(own), self.kept, dtype=torch.long)
        self.given = torch.zeros(len(own), self.kept, dtype=torch.bool)
        for row, answer in enumerate(answers):
            self.answers[row, self.kept - len(answer) :] = torch.tensor(answer)
            self.given[row, self.kept - len(answer) :] = True
        self.start = self.places[0][0]
        base = model.run(self.batch, keep_inputs=[self.start], logits_to_keep=self.kept)
        self.rows = base.inputs[self.start]
        self.log_p_before = self._log_p(base.logits)
        self.before = base.logits[len(own) :, -1].log_softmax(-1)

    def __call__(self, change: Tensor) -> tuple[Tensor, Tensor]:
        """Log P of the new object [prompt], and the mean divergence of the other prompts."""
        with passed_over(self.model.layers, self.start, self.rows), self._added(change):
            logits = self.model.forward(
                input_ids=self.batch.ids,
                attention_mask=self.batch.attention_mask,
                position_ids=self.batch.position_ids,
                use_cache=False,
                logits_to_keep=self.kept,
            )
        now = logits[len(self.answers) :, -1].log_softmax(-1)
        kept = (self.before.exp() * (self.before - now)).sum(-1)
        return self._log_p(logits), kept.mean() if len(kept) else logits.new_zeros(())

    def _log_p(self, logits: Tensor) -> Tensor:
        mine = logits[: len(self.answers)].log_softmax(-1)
        chosen = mine.gather(-1, self.answers.to(mine.device)[..., None])[..., 0]
        return (chosen * self.given.to(mine.device)).sum(1).cpu()

    @contextmanager
    def _added(self, change: Tensor) -> Iterator[None]:
        """Add hidden times the change to what the down projections put out."""
        with ExitStack() as stack:
            for layer, ranks in self.places:
                seen: list[Tensor] = []

                def look(hidden: Tensor, seen: list[Tensor] = seen) -> None:
                    seen[:] = [hidden]

                def add(
                    down: Tensor,
                    seen: list[Tensor] = seen,
                    layer: int = layer,
                    ranks: np.ndarray = ranks,
                ) -> Tensor:
                    hidden = seen[0][..., self.indices[layer].to(down.device)]
                    rows = change[torch.from_numpy(ranks)].to(down.device, down.dtype)
                    return down + hidden @ rows

                stack.enter_context(self.model.touch("hidden", layer, look))
                stack.enter_context(self.model.touch("down", layer, add))
            yield


def _tokens(model: LanguageModel, prompt: Prompt, border: str) -> tuple[int, ...]:
    for between in (border, *BORDERS):
        tokens = answer_tokens(model, prompt.text, prompt.answers[0], between)
        if tokens:
            return tokens
    raise EditError("The new object has no tokens of its own", repr(prompt.answers[0]))


def descend(problem: Problem, config: FactEditConfig) -> tuple[Tensor, Tensor, int]:
    """The change of lowest loss, log P with it, and the steps made."""
    lengths = problem.lengths[:, None]
    share = torch.zeros(len(lengths), problem.rows.shape[-1], requires_grad=True)
    best = (float("inf"), torch.zeros_like(share), problem.log_p_before)
    step = 0
    for step in range(config.n_steps + 1):
        with torch.enable_grad():
            log_p, moved = problem(share * lengths)
            loss = -log_p.mean() + config.locality * moved.cpu()
        if not torch.isfinite(loss):
            raise EditError("The loss is not finite", mend="Load the model in float32.")
        if loss.item() < best[0]:
            best = (loss.item(), share.detach().clone(), log_p.detach())
        reached = log_p.min().item() >= np.log(config.target)
        if step == config.n_steps or reached:
            break
        (slope,) = torch.autograd.grad(loss, share)
        with torch.no_grad():
            far = config.step_size * len(share) ** 0.5
            share -= far * slope / slope.norm().clamp(min=1e-30)
        _bound(share, lengths, config)
    return best[1] * lengths, best[2], step


@torch.no_grad()
def _bound(share: Tensor, lengths: Tensor, config: FactEditConfig) -> None:
    """Shorten what is longer than allowed: each vector's change, then all together."""
    share *= (config.max_change / share.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
    total = float((share * lengths).norm() / lengths.norm())
    share *= min(1.0, config.max_total / max(total, 1e-12))
