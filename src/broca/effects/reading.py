"""Read the objective of many rows without holding rows x vocabulary.

Log P needs the target's logit and the log of the sum over all logits, nothing else. The head is
passed over in the model's own forward; its rows are read here in blocks that stay in the cache.
Rows near the untouched one are read in part (:mod:`broca.effects.nearby`).
Where the way from the head to the logits is not understood (:mod:`broca.readout` measures that),
whole logits are read instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from broca.effects.aims import Aim
from broca.effects.nearby import CHECKED, LIMITS, TOLERANCE, Nearby
from broca.errors import ModelError
from broca.model import LanguageModel
from broca.model.numbers import is_numbers
from broca.readout import Unembedding, find_unembedding

_ROWS, _VOCABULARY = 512, 2048  # a block of logits: 4 MiB, and products large enough to be fast
_LEAST = 1e-25  # below, a sum over exp(logit - shift) has lost its digits


@dataclass(frozen=True)
class Reader:
    """Reads objectives at the last position.

    Attributes:
        unembedding: The way from the head's input to the logits; None where it is not known.
    """

    unembedding: Unembedding | None

    def read(
        self, run: Callable[[], Tensor], aim: Aim, shift: float, nearby: Nearby | None = None
    ) -> Tensor:
        """The objective, float64 [row].

        Args:
            run: Runs the model on rows of one prompt; gives logits [1, row, vocab].
            aim: What is read.
            shift: About the largest logit.
            nearby: The sum over the vocabulary near the prompt's untouched row.
        """
        if self.unembedding is None:
            return aim.read(run()[0])
        with _head_passed_over(self.unembedding.head) as kept:
            run()
        rows = torch.cat([part.reshape(-1, part.shape[-1]) for part in kept])
        if aim.rivals:
            logits = self._logits(rows, torch.tensor([aim.target, *aim.rivals]))
            return (logits[:, 0] - logits[:, 1:].amax(-1)).double()
        target = self._logits(rows, torch.tensor([aim.target]))[:, 0]
        return target.double() - self._log_sums(rows, shift, nearby)

    def _logits(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Logits [row, token] of some tokens."""
        weight, bias = _head_tensors(self.unembedding)
        tokens = tokens.to(weight.device)
        logits = rows @ weight[tokens].T
        return self._finished(logits if bias is None else logits + bias[tokens]).float()

    def _finished(self, logits: Tensor) -> Tensor:
        """Factor and cap applied in place."""
        assert self.unembedding is not None
        if self.unembedding.factor != 1.0:
            logits *= self.unembedding.factor
        if self.unembedding.cap is not None:
            logits.div_(self.unembedding.cap).tanh_().mul_(self.unembedding.cap)
        return logits

    def _log_sums(self, rows: Tensor, shift: float, nearby: Nearby | None) -> Tensor:
        """Log of the sum over all logits of exp, float64 [row], by moments where they hold."""
        if nearby is None:
            return self._logsumexp(rows, shift)
        found, third = nearby.log_sums(rows)
        for limit in LIMITS:
            whole = ~(third <= limit)
            checked = third.masked_fill(whole, -1.0).topk(min(CHECKED, len(rows))).indices
            checked = checked[~whole[checked]]
            summed = whole.index_fill(0, checked, True)
            exact = found.clone()
            exact[summed] = self._logsumexp(rows[summed], shift)
            if not bool(((exact - found)[checked].abs() > TOLERANCE).any()):
                return exact
        return self._logsumexp(rows, shift)

    def _logsumexp(self, rows: Tensor, shift: float) -> Tensor:
        """Log of the sum over all logits of exp, float64 [row]."""
        weight, bias = _head_tensors(self.unembedding)
        total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        block = rows.new_empty(min(_ROWS, len(rows)) * _VOCABULARY)
        for row in range(0, len(rows), _ROWS):
            part = rows[row : row + _ROWS]
            for start in range(0, len(weight), _VOCABULARY):
                columns = weight[start : start + _VOCABULARY]
                logits = block[: len(part) * len(columns)].view(len(part), len(columns))
                torch.mm(part, columns.T, out=logits)
                if bias is not None:
                    logits += bias[start : start + _VOCABULARY]
                self._finished(logits)
                total[row : row + _ROWS] += logits.sub_(shift).exp_().sum(-1)
        found = total.log() + shift
        lost = ~(torch.isfinite(total) & (total > _LEAST))
        for row in lost.nonzero().flatten().tolist():  # far from the untouched logits
            logits = torch.nn.functional.linear(rows[row], weight, bias)
            found[row] = self._finished(logits).double().logsumexp(-1)
        return found


def _head_tensors(unembedding: Unembedding | None) -> tuple[Tensor, Tensor | None]:
    assert unembedding is not None
    weight = unembedding.head.weight
    assert isinstance(weight, Tensor)
    return weight, getattr(unembedding.head, "bias", None)


@contextmanager
def _head_passed_over(head: nn.Module) -> Iterator[list[Tensor]]:
    """Keep what enters the head, and hand on one number per row in place of its logits."""
    kept: list[Tensor] = []
    own = head.__dict__.get("forward")

    def forward(rows: Tensor) -> Tensor:
        kept.append(rows)
        return rows[..., :1]

    head.forward = forward  # type: ignore[method-assign]
    try:
        yield kept
    finally:
        if own is None:
            del head.forward
        else:
            head.forward = own  # type: ignore[method-assign]


_READERS: WeakKeyDictionary[LanguageModel, dict[torch.dtype, Reader]] = WeakKeyDictionary()


def make_reader(model: LanguageModel) -> Reader:
    """The reader of a model, found once per precision."""
    known = _READERS.setdefault(model, {})
    if model.dtype not in known:
        known[model.dtype] = Reader(_readable(model))
    return known[model.dtype]


def _readable(model: LanguageModel) -> Unembedding | None:
    try:
        found = find_unembedding(model)
    except ModelError:
        return None
    weight = found.head.weight
    width = model.module.get_input_embeddings().weight.shape[0]
    readable = is_numbers(weight) and weight.dim() == 2 and len(weight) >= width
    return found if readable else None
