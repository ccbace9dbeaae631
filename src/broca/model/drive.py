"""How a model may be driven, measured once: padding, layers passed over, keys and values.

Nothing is assumed of a family: what does not hold is not used. Rows of one length then run without
padding, whole passes stand in for passes from a layer on, and whole prompts for a next token on
keys and values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from broca.model.verify import sample_ids, tolerance

if TYPE_CHECKING:
    from broca.model.language_model import LanguageModel
    from broca.model.reading import TokenBatch

BEYOND_A_BLOCK = (33, 65)
"""Widths with one token beyond blocks of 32 and 64. On a GPU, in float32 with heads of 256 (as
Gemma 3), torch 2.11 reads that token's mask wrongly; its logits depend on the prompt no longer."""


@dataclass(frozen=True)
class Drive:
    """What was measured; errors are the largest logit difference, as a share of the largest logit.

    Attributes:
        padding_error: A left-padded batch against single rows; infinite if it cannot be run.
        resume_error: Layers run from a given one on, against the whole pass.
        cache_error: A next token on keys and values, against the whole prompt.
        tolerance: What is allowed in the model's dtype.
    """

    padding_error: float
    resume_error: float
    cache_error: float
    tolerance: float

    @property
    def pads(self) -> bool:
        """Whether prompts of different lengths may share a batch."""
        return self.padding_error <= self.tolerance

    @property
    def resumes(self) -> bool:
        """Whether layers may be passed over."""
        return self.resume_error <= self.tolerance

    @property
    def caches(self) -> bool:
        """Whether keys and values carry a next token, cut to the prompt and row by row."""
        return self.cache_error <= self.tolerance


@torch.no_grad()
def measure_drive(model: LanguageModel) -> Drive:
    """Measure a model; what raises counts as what does not hold."""
    ids = sample_ids(model, 9)
    return Drive(
        padding_error=_tried(lambda: _padding_error(model, ids)),
        resume_error=_tried(lambda: _resume_error(model, ids)),
        cache_error=_tried(lambda: _cache_error(model, ids)),
        tolerance=tolerance(model.dtype),
    )


def _tried(measure: Callable[[], float]) -> float:
    try:
        found = measure()
    except Exception:  # whatever a family raises, it is not driven this way
        return float("inf")
    return found if found == found else float("inf")


def _difference(found: Tensor, expected: Tensor) -> float:
    largest = expected.float().abs().max().clamp(min=1e-12)
    return float((found.float() - expected.float()).abs().max() / largest)


def _padding_error(model: LanguageModel, ids: list[int]) -> float:
    errors = [_padded(model, [ids, ids[:4], ids[2:4]])]
    for width in BEYOND_A_BLOCK if in_blocks(model.device) else ():
        if model.max_tokens is None or width <= model.max_tokens:
            longer = (ids * width)[:width]
            errors.append(_padded(model, [longer, longer[:-5], longer[3:]]))
    return max(errors)


def _padded(model: LanguageModel, rows: list[list[int]]) -> float:
    padded = model.logits(model.pad(rows))
    return _difference(padded, torch.cat([model.logits(model.pad([row])) for row in rows]))


def in_blocks(device: torch.device) -> bool:
    """Whether attention is computed there by kernels that take tokens in blocks."""
    return device.type != "cpu"


def _resume_error(model: LanguageModel, ids: list[int]) -> float:
    """Over a few layers of a deep model: the way is the same for all of them."""
    batch = model.pad([ids, ids[::-1]])
    starts = sorted({1, model.n_layers // 2, model.n_layers - 1} & set(range(1, model.n_layers)))
    whole = model.run(batch, keep_inputs=starts)
    errors = [
        _difference(model.run(batch, start=n, rows=whole.inputs[n]).logits, whole.logits)
        for n in starts
    ]
    return max(errors, default=0.0)


def _cache_error(model: LanguageModel, ids: list[int]) -> float:
    """As answers use them: one row of a batch, cut to all tokens but the last two."""
    from broca.model.resume import crop

    batch = model.pad([ids[::-1], ids])
    done = model.run(batch, use_cache=True)
    if any(pair is None for pair in done.keys_values):
        return float("inf")
    length = len(ids) - 2
    past = crop(done.keys_values, torch.tensor([1], device=batch.ids.device), length)
    step = _token(batch, 1, length)
    mask = batch.attention_mask[1:, :length]
    found = model.run(step, past=past, past_mask=mask).logits
    return _difference(found, model.logits(model.pad([ids[: length + 1]])))


def _token(batch: TokenBatch, row: int, position: int) -> TokenBatch:
    where = (slice(row, row + 1), slice(position, position + 1))
    return type(batch)(batch.ids[where], batch.attention_mask[where], batch.position_ids[where])
