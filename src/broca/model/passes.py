"""Primitive 2: forward passes, from a given layer on where its rows are given."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from broca.errors import ModelError
from broca.model.drive import Drive
from broca.model.finite import require_finite
from broca.model.head import read_as_one
from broca.model.reading import TokenBatch, TokenReader
from broca.model.resume import KeysValues, Pass, inputs_kept, kept_keys_values, passed_over


class PassRunner(TokenReader):
    """What a model does with tokens: batches of them, and passes.

    Attributes:
        layers: Its decoder blocks.
        drive: How it may be driven, measured.
    """

    layers: list[nn.Module]
    drive: Drive

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.module.dtype

    @cached_property
    def _accepted(self) -> frozenset[str] | None:
        """Arguments that the family's forward takes; None if it takes any."""
        parameters = inspect.signature(type(self.module).forward).parameters
        if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
            return None
        return frozenset(parameters)

    def batches(self, lengths: Sequence[int], size: int) -> list[list[int]]:
        """Rows in batches of at most ``size``, shortest first.

        Batches hold one length each where padding does not hold (:attr:`drive`).
        """
        order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
        mixed = len(set(lengths)) == 1 or self.drive.pads
        found: list[list[int]] = []
        for row in order:
            full = not found or len(found[-1]) == size
            if full or not (mixed or lengths[found[-1][0]] == lengths[row]):
                found.append([])
            found[-1].append(row)
        return found

    @torch.no_grad()
    def run(
        self,
        batch: TokenBatch,
        *,
        start: int = 0,
        rows: Tensor | None = None,
        keep_inputs: Sequence[int] = (),
        past: KeysValues | None = None,
        past_mask: Tensor | None = None,
        use_cache: bool = False,
        logits_to_keep: int = 1,
    ) -> Pass:
        """One forward pass, from layer ``start`` on where the rows entering it are given.

        Args:
            batch: The tokens; also gives mask and positions for the layers that run.
            start: First layer to run. Layers below are passed over.
            rows: What enters layer ``start``, [prompt, token, d_model]; needed if start > 0.
            keep_inputs: Layers whose entering rows are to be kept.
            past: Keys and values of earlier tokens per layer, never changed in place.
            past_mask: Mask of those tokens, [prompt, past token].
            use_cache: Whether to return keys and values.
            logits_to_keep: Logits of how many last tokens.

        Raises:
            ModelError: If logits of a real token are not finite.
        """
        if start and rows is None:
            raise ModelError("Layers cannot be passed over without the rows that enter the first")
        cache = None
        if past is not None or use_cache:
            cache = DynamicCache()
            for number, pair in enumerate(past or ()):
                if pair is not None:
                    cache.update(pair[0], pair[1], number)
        mask = batch.attention_mask
        if past_mask is not None:
            mask = torch.cat([past_mask, mask], dim=1)
        with passed_over(self.layers, start, rows), inputs_kept(self.layers, keep_inputs) as kept:
            logits = self.forward(
                input_ids=batch.ids,
                attention_mask=mask,
                position_ids=batch.position_ids,
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=logits_to_keep,
            )
        require_finite(self, logits, mask=batch.attention_mask[:, -logits.shape[1] :])
        return Pass(logits, kept, kept_keys_values(cache, len(self.layers)))

    def forward(self, *, logits_to_keep: int, **inputs: Any) -> Tensor:
        """Logits of the last tokens (0: of all), float32, of a pass of the module itself.

        Arguments that the family's forward does not take are left out; logits that it gives for
        more tokens than asked for are dropped.
        """
        inputs["logits_to_keep"] = logits_to_keep
        if self._accepted is not None:
            inputs = {name: value for name, value in inputs.items() if name in self._accepted}
        with read_as_one(self.module):
            return self.module(**inputs).logits[:, -logits_to_keep:].float()

    def logits(self, batch: TokenBatch, logits_to_keep: int = 1) -> Tensor:
        """Logits of the last tokens, float32 [prompt, kept, vocab]."""
        return self.run(batch, logits_to_keep=logits_to_keep).logits

    def probabilities(self, texts: Sequence[str]) -> Tensor:
        """Probability of every next token, float32 [prompt, vocab]."""
        tokens = self.encode(texts)
        found: list[Tensor | None] = [None] * len(tokens)
        for rows in self.batches([len(ids) for ids in tokens], len(tokens)):
            logits = self.logits(self.pad([tokens[row] for row in rows]))[:, -1].softmax(-1)
            for row, probabilities in zip(rows, logits, strict=True):
                found[row] = probabilities
        return torch.stack([one for one in found if one is not None])

    def answer(self, text: str, n_tokens: int = 2) -> str:
        """The greedy continuation of a text, by whatever interventions are active.

        It is shorter where the context ends.
        """
        ids = self.encode([text])[0]
        start = len(ids)
        while len(ids) < start + n_tokens and self.fits(ids):
            ids = [*ids, int(self.logits(self.pad([ids]))[0, -1].argmax())]
        return self.tokenizer.decode(ids[start:])
