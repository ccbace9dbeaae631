"""The sum over the vocabulary near the untouched row: some tokens read, the rest by moments.

Log P needs S(h) = sum over tokens of exp(w_i h + b_i), w_i a row of the unembedding. For a row
h = h0 + d, with the probabilities p at the untouched row h0:

    S(h) / S(h0) = sum over the READ of p_i exp(w_i d)  +  tau exp(mu d + d' C d / 2)

READ are the tokens of most probability at h0. The others, tau of the probability together, have
mean mu and covariance C of their w_i by p: the cumulant expansion of E exp(w d) to second order.
The third order is tau V^1.5 times a sixth of the skewness of w d, V = d' C d.

1. Rows where tau V^1.5 is above the first of :data:`LIMITS`, as a share of the sum, are summed over
   the whole vocabulary.
2. So are, in every block, those rows of the others where it is largest. If one of them differs by
   more than :data:`TOLERANCE`, the next limit holds for the block; behind the last one all its rows
   are summed whole.

Source: ours; the expansion is the textbook's. Cost: READ and d_model tokens per row in place of the
vocabulary, and d_model rows of the vocabulary once for C: of use for many rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from broca.model.branches import BasePass
from broca.readout import Unembedding

READ = 8  # one token in so many is read
LEAST_ROWS = 4  # times d_model, below which C is not worth its cost
LIMITS = 1e-5, 2e-6, 4e-7  # of the sum, by tau V^1.5: the third order is some hundredths of it
TOLERANCE = 5e-6  # of log S; whole sums in float32 are off by up to 3e-6 themselves
CHECKED = 4  # rows per block
_BLOCK = 2048  # tokens at once


@dataclass(frozen=True)
class Nearby:
    """What the sum is near one row.

    Attributes:
        row: h0, [d_model].
        log_sum: log S(h0).
        read: w of the tokens read, [token, d_model].
        shares: Their probabilities, [token].
        rest: tau.
        mean: mu, [d_model].
        covariance: C, [d_model, d_model].
    """

    row: Tensor
    log_sum: float
    read: Tensor
    shares: Tensor
    rest: float
    mean: Tensor
    covariance: Tensor

    def log_sums(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """log S of rows [row, d_model], float64, and tau V^1.5 as a share of S."""
        change = rows - self.row
        read = (change @ self.read.T).exp_() @ self.shares
        spread = ((change @ self.covariance) * change).sum(-1).double().clamp(min=0.0)
        rest = self.rest * ((change @ self.mean).double() + spread / 2).exp()
        total = read.double() + rest
        return total.log() + self.log_sum, rest * spread**1.5 / total


@torch.no_grad()
def near(unembedding: Unembedding | None, base: BasePass, n_rows: int) -> Nearby | None:
    """The sum near a prompt's untouched row, for the reading of so many rows.

    Args:
        unembedding: The way to the logits.
        base: The base pass of one prompt.
        n_rows: How many rows will be read.

    Returns:
        None where it is not worth its cost, or the logits are no linear function of the row that
        enters the head.
    """
    if unembedding is None or unembedding.cap is not None:
        return None
    weight = unembedding.head.weight
    assert isinstance(weight, Tensor)
    if weight.dtype != torch.float32 or n_rows < LEAST_ROWS * weight.shape[1]:
        return None
    last = base.output[-1].to(weight.device)
    row = (unembedding.norm(last) if unembedding.norm is not None else last)[0]
    logits = _logits(unembedding, row)
    if float((logits - base.logits[0].to(logits)).abs().max()) > 1e-3:
        return None
    p = logits.softmax(-1)
    order = p.argsort(descending=True)
    n_read = -(-len(p) // READ)
    read, others = order[:n_read], order[n_read:]
    rest, mean, covariance = _moments(weight, p, others)
    factor = unembedding.factor
    return Nearby(
        row=row,
        log_sum=float(logits.logsumexp(-1)),
        read=weight[read] * factor,
        shares=p[read].float(),
        rest=rest,
        mean=mean * factor,
        covariance=covariance * factor**2,
    )


def _logits(unembedding: Unembedding, row: Tensor) -> Tensor:
    """Logits of one row that enters the head, float64 throughout: all others stand on their sum."""
    weight, bias = unembedding.head.weight, getattr(unembedding.head, "bias", None)
    assert isinstance(weight, Tensor)
    row = row.double()
    logits = torch.cat([some.double() @ row for some in weight.split(_BLOCK)])
    return (logits if bias is None else logits + bias) * unembedding.factor


def _moments(weight: Tensor, p: Tensor, tokens: Tensor) -> tuple[float, Tensor, Tensor]:
    """Probability of some tokens together, and mean and covariance of their w by it."""
    centre = weight.mean(0)  # taken off first: what all w share would drown their differences
    shares = p[tokens]
    rest = float(shares.sum())
    shares = (shares / rest).float()
    first = torch.zeros(weight.shape[1], dtype=torch.float64, device=weight.device)
    second = torch.zeros(
        weight.shape[1], weight.shape[1], dtype=torch.float64, device=weight.device
    )
    for some, share in zip(tokens.split(_BLOCK), shares.split(_BLOCK), strict=True):
        apart = weight[some] - centre
        first += share @ apart
        second += apart.T @ (apart * share[:, None])
    covariance = second - first.outer(first)
    return rest, (centre + first).float(), covariance.float()
