"""Responses: the activations of all neurons of some sites on prompts, pooled over tokens.

1. Prompts run in batches, once for all chosen sites.
2. At each site the tensor [prompt, token, neuron] is pooled in float32 to [prompt, neuron].
3. Rows go to one file per (site, layer), on disk where a folder is given, so that memory stays
   bounded whatever the model; a finished folder is reused by later studies.

Source: paper B, section 3.1 (mean over the prompt's tokens), with the poolings of METHODS.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from broca.errors import ScoreError
from broca.model import LanguageModel, TokenBatch
from broca.model.experts import Slots
from broca.model.finite import require_finite
from broca.neurons import NeuronIndex, digest_of
from broca.progress import track
from broca.prompts import Prompt
from broca.store.blocks import (
    beside_of,
    claim_block,
    damaged_blocks,
    finish_blocks,
    settle_blocks,
)
from broca.tabular import SHOWN, html_table

Averaged = Callable[["Responses", bool], np.ndarray]

POOLINGS = ("mean", "mean-no-bos", "asked", "last", "subject-last")


@dataclass(frozen=True)
class Responses:
    """Pooled responses of the neurons of an index to prompts.

    Attributes:
        index: Which neurons.
        prompt_ids: Which prompts, in row order.
        pooling: One of :data:`POOLINGS`.
        key: Hash of model, prompts and pooling.
        folder: Where the blocks lie, None if they are in memory.
        averaged: Computes means elsewhere than in this process; see `means`.
    """

    index: NeuronIndex
    prompt_ids: tuple[str, ...]
    pooling: str
    key: str
    folder: Path | None = None
    rows: np.ndarray | None = None
    _blocks: dict[tuple[str, int], np.ndarray] = field(default_factory=dict, repr=False)
    averaged: Averaged | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        sites = ", ".join(self.index.sites)
        place = "in memory" if self.folder is None else "on disk"
        return (
            f"<Responses: {len(self.prompt_ids):,} prompts × {len(self.index):,} neurons ({sites}) "
            f"of {self.index.identity.id}, pooled by {self.pooling}, {place}>"
        )

    def _repr_html_(self) -> str:
        blocks = [
            (site, layer, where.stop - where.start) for site, layer, where in self.index.blocks()
        ]
        names = ("site", "layer", "neurons")
        listed = map(list, zip(*blocks[:SHOWN], strict=True))
        columns: dict[str, list[Any]] = dict(zip(names, listed, strict=True))
        return html_table(repr(self), columns)

    def block(self, site: str, layer: int) -> np.ndarray:
        """Responses at one site and layer, float32 [prompt, neuron]; from disk they are mapped."""
        if self.folder is None:
            values = self._blocks[site, layer]
        else:
            values = np.load(self.folder / f"{site}.{layer}.npy", mmap_mode="r")
        return values if self.rows is None else values[self.rows]

    def reached(self, site: str, layer: int) -> np.ndarray:
        """Share of the prompts of which a token reaches each expert of a layer, [expert]."""
        experts = self.index.identity.experts
        number, width = experts[layer] if experts else (0, 0)
        values = self.block(site, layer)[:, : number * width : max(1, width)]
        return 1 - np.isnan(values).mean(axis=0)

    def subset(self, rows: Sequence[int] | np.ndarray) -> Responses:
        """The same responses to some of the prompts, in the order given."""
        rows = np.asarray(rows)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        inside = rows if self.rows is None else self.rows[rows]
        ids = tuple(self.prompt_ids[row] for row in rows)
        return replace(self, prompt_ids=ids, rows=inside)

    def means(self, *, absolute: bool = False) -> np.ndarray:
        """Mean response (or mean |response|) of every neuron over the prompts, [neuron].

        Of neurons of an expert, over the prompts that reach it; 0 where none does.
        """
        if self.averaged is not None:
            return self.averaged(self, absolute)
        blocks = [(site, layer) for site, layer, _ in self.index.blocks()]
        return np.concatenate([self.block_means(*block, absolute=absolute) for block in blocks])

    def block_means(self, site: str, layer: int, *, absolute: bool = False) -> np.ndarray:
        """The same of one site and layer, float64 [neuron]."""
        block = np.asarray(self.block(site, layer))
        values = np.abs(block) if absolute else block
        known = np.maximum((~np.isnan(values)).sum(axis=0), 1)
        return np.nansum(values, axis=0, dtype=float) / known

    def __getstate__(self) -> dict[str, Any]:
        """What travels to a worker: nothing that knows of engines."""
        return {**self.__dict__, "averaged": None}


@torch.no_grad()
def record_responses(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    sites: Sequence[str] = ("gate", "up", "down"),
    *,
    pooling: str = "mean",
    folder: str | Path | None = None,
    batch_size: int = 64,
) -> Responses:
    """Record pooled responses of every neuron of some sites, in one pass per prompt.

    A neuron of an expert is pooled over the tokens that reach the expert; NaN where none does
    (:meth:`Responses.reached` tells the share).

    Args:
        model: The model under study.
        prompts: What it reads.
        sites: Which sites.
        pooling: ``mean`` over the prompt's real tokens, BOS included (paper B's ancestor code);
            ``mean-no-bos``; ``asked``, mean over the tokens of the asked wording, without
            demonstrations, ending and markup; ``last`` token; ``subject-last``, the subject's
            last token.
        folder: Where to keep the blocks, in a subfolder by key; a finished one is reused. In
            memory if None.
        batch_size: Prompts per pass.

    Raises:
        ScoreError: If the pooling is unknown, or a prompt has no subject for ``subject-last``.
        NeuronError: If the model has no such site.
        PromptError: If a prompt is longer than the context.
        ModelError: If responses or logits are not finite.
        RunError: If there is no space for the blocks on the disk.
    """
    if pooling not in POOLINGS:
        raise ScoreError(f"Unknown pooling {pooling!r}", mend=f"Use one of {', '.join(POOLINGS)}.")
    if not prompts:
        raise ScoreError("There are no prompts to record responses on")
    index = NeuronIndex(model.identity, tuple(sites))
    key = response_key(model, prompts, index.sites, pooling)
    ids = tuple(prompt.id for prompt in prompts)
    place = None if folder is None else Path(folder) / key
    if place is not None and not damaged_blocks(place, quick=True):
        return Responses(index, ids, pooling, key, place)
    if place is None:
        blocks = _recorded(model, prompts, index, pooling, None, batch_size)
        return Responses(index, ids, pooling, key, None, None, blocks)
    beside = beside_of(place)
    try:
        _recorded(model, prompts, index, pooling, beside, batch_size)
        about = {"sites": list(index.sites), "pooling": pooling, "prompts": list(ids)}
        finish_blocks(beside, about)
        settle_blocks(beside, place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Responses(index, ids, pooling, key, place)


def _recorded(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    index: NeuronIndex,
    pooling: str,
    place: Path | None,
    batch_size: int,
) -> dict[tuple[str, int], np.ndarray]:
    """Blocks of responses in memory, or in a folder, where they are written to the disk."""
    blocks = _allocate(index, len(prompts), place)
    tokens = model.encode([prompt.text for prompt in prompts])
    batches = [np.array(b) for b in model.batches([len(t) for t in tokens], batch_size)]
    for rows in track(batches, "Recording responses"):
        batch = model.pad([tokens[row] for row in rows])
        weights = _weights(model, [prompts[row] for row in rows], batch, pooling)
        _record(model, index, batch, weights, rows, blocks)
    for block in blocks.values():
        if isinstance(block, np.memmap):
            block.flush()
    return blocks


def response_key(
    model: LanguageModel, prompts: Sequence[Prompt], sites: Sequence[str], pooling: str
) -> str:
    """Hash of all that determines responses: model, prompts, sites and pooling."""
    texts = [[prompt.id, prompt.text] for prompt in prompts]
    dtype = str(model.dtype)
    return digest_of([model.identity.fingerprint, dtype, list(sites), pooling, texts])


def _allocate(
    index: NeuronIndex, n_prompts: int, place: Path | None
) -> dict[tuple[str, int], np.ndarray]:
    if place is None:
        make = lambda site, layer, width: np.empty((n_prompts, width), np.float32)  # noqa: E731
    else:

        def make(site: str, layer: int, width: int) -> np.ndarray:
            return claim_block(place / f"{site}.{layer}.npy", (n_prompts, width))

    return {
        (site, layer): make(site, layer, where.stop - where.start)
        for site, layer, where in index.blocks()
    }


def _record(
    model: LanguageModel,
    index: NeuronIndex,
    batch: TokenBatch,
    weights: Tensor,
    rows: np.ndarray,
    blocks: dict[tuple[str, int], np.ndarray],
) -> None:
    with ExitStack() as stack:
        for site, layer, _ in index.blocks():
            routed = sum(model.block(layer).widths()[site][:1])

            def keep(
                tensor: Tensor, block: np.ndarray = blocks[site, layer], routed: int = routed
            ) -> None:
                pooled = torch.einsum("pt,ptn->pn", weights.to(tensor.device), tensor.float())
                block[rows, routed:] = require_finite(model, pooled, "responses").cpu().numpy()

            def keep_experts(
                values: Tensor,
                slots: Slots,
                block: np.ndarray = blocks[site, layer],
                routed: int = routed,
            ) -> None:
                n_experts = routed // values.shape[-1]
                require_finite(model, values, "responses")
                pooled = pool_slots(values, slots, weights.to(values.device), n_experts)
                block[rows, :routed] = pooled.flatten(1).cpu().numpy()

            stack.enter_context(model.touch_apart(site, layer, keep_experts, keep))
        model.logits(batch)


def pool_slots(values: Tensor, slots: Slots, weights: Tensor, n_experts: int) -> Tensor:
    """Mean values over the tokens that reach an expert, [prompt, expert, neuron].

    Args:
        values: [slot, neuron].
        slots: Which tokens are at which experts.
        weights: What every token counts, [prompt, token].
        n_experts: Experts of the layer.

    Returns:
        NaN where no token that counts reaches the expert.
    """
    n_prompts, n_tokens = weights.shape
    counted = weights.flatten()[slots.tokens]
    if len(slots.tokens) == n_experts * slots.n_tokens:  # every token at every expert, or zeros
        counted = counted * values.any(-1)
    place = slots.tokens // n_tokens * n_experts + slots.experts
    total = values.new_zeros(n_prompts * n_experts, values.shape[-1], dtype=torch.float32)
    total.index_add_(0, place, values.float() * counted[:, None])
    count = total.new_zeros(len(total)).index_add_(0, place, counted.to(total))
    return (total / count[:, None]).view(n_prompts, n_experts, -1)


def _weights(
    model: LanguageModel, prompts: Sequence[Prompt], batch: TokenBatch, pooling: str
) -> Tensor:
    """What every token counts in the pooled response, float32 [prompt, token]."""
    mask = batch.attention_mask.float()
    if pooling == "mean":
        return mask / mask.sum(1, keepdim=True)
    if pooling == "mean-no-bos":
        bos = model.tokenizer.bos_token_id
        first = mask.argmax(1)
        for row, start in enumerate(first.tolist()):
            if bos is not None and batch.ids[row, start] == bos and mask[row].sum() > 1:
                mask[row, start] = 0
        return mask / mask.sum(1, keepdim=True)
    weights = torch.zeros_like(mask)
    for row, prompt in enumerate(prompts):
        if pooling == "asked":
            where = _asked_tokens(model, prompt)
            weights[row, where] = 1 / len(where)
            continue
        weights[row, -1 if pooling == "last" else _subject_token(model, prompt)] = 1
    return weights


def _subject_token(model: LanguageModel, prompt: Prompt) -> int:
    """Position of the subject's last token, counted from the prompt's end."""
    if prompt.subject_span is None:
        raise ScoreError(
            "A prompt does not name its subject",
            repr(prompt.text),
            "Pooling 'subject-last' needs prompts made from facts.",
        )
    end = prompt.subject_span[1]
    spans = model.token_spans(prompt.text)
    covering = [i for i, (start, stop) in enumerate(spans) if start < end <= stop and stop > start]
    if not covering:
        raise ScoreError("No token ends the subject of a prompt", repr(prompt.text))
    return covering[0] - len(spans)


def _asked_tokens(model: LanguageModel, prompt: Prompt) -> list[int]:
    """Positions of the asked wording's tokens, counted from the prompt's end."""
    where = model.positions_of(prompt.text, prompt.asked_span or (0, len(prompt.text)))
    if not where:
        raise ScoreError("No token of a prompt is asked", repr(prompt.text))
    return list(where)
