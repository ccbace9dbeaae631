"""Texts as a model gets them: token ids, where tokens stand, batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from broca.errors import PromptError
from broca.model.chat import chat_text
from broca.model.special_tokens import SpecialTokens, find_special_tokens


@dataclass(frozen=True)
class TokenBatch:
    """Left-padded token ids with their mask and position ids, each [prompt, token]."""

    ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor

    @property
    def lengths(self) -> Tensor:
        """Real tokens per prompt."""
        return self.attention_mask.sum(1)

    def __len__(self) -> int:
        return len(self.ids)


class TokenReader:
    """What a model does with texts before it runs."""

    name: str
    module: Any
    config: Any
    tokenizer: Any

    @property
    def device(self) -> torch.device:
        """Where the embedding is, hence where token ids go."""
        return self.module.get_input_embeddings().weight.device

    @property
    def n_known(self) -> int:
        """Tokens that the model has an embedding of; a tokenizer may have more."""
        return self.module.get_input_embeddings().weight.shape[0]

    @property
    def max_tokens(self) -> int | None:
        """Longest prompt, None if the model sets no limit."""
        return getattr(self.config, "max_position_embeddings", None)

    @cached_property
    def special_tokens(self) -> SpecialTokens:
        """The special tokens prompts get: see :mod:`broca.model.special_tokens`."""
        return find_special_tokens(self.tokenizer)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, of any length, with the special tokens a prompt gets."""
        ids = self.tokenizer(text).input_ids
        return ids[self.special_tokens.kept(ids)]

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of :meth:`tokenize` stands in the text: characters, end excluded.

        Special tokens that the tokenizer adds stand at (0, 0).

        Raises:
            PromptError: The tokenizer does not say where its tokens stand.
        """
        try:
            encoding = self.tokenizer(text, return_offsets_mapping=True)
            spans = encoding["offset_mapping"]
        except (NotImplementedError, KeyError) as error:  # tokenizers written in Python
            raise PromptError(
                "This tokenizer does not say where in a text its tokens stand",
                type(self.tokenizer).__name__,
                'Use pooling = "mean" or "last", or a fast tokenizer (tokenizer.json)',
            ) from error
        return [
            (start, stop) for start, stop in spans[self.special_tokens.kept(encoding.input_ids)]
        ]

    def positions_of(self, text: str, span: tuple[int, int]) -> tuple[int, ...]:
        """Positions of the tokens of a part of a text, counted from its end.

        A token that reaches into the part counts, such as one that begins with the space before
        it. Special tokens stand for no characters and never count.

        Args:
            text: The text.
            span: The part, (start, end) in characters.
        """
        spans = self.token_spans(text)
        return tuple(
            number - len(spans)
            for number, (left, right) in enumerate(spans)
            if left < span[1] and right > span[0] and right > left
        )

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a text or turn, by the tokenizer and the generation config."""
        config = getattr(self.module, "generation_config", None)
        listed = getattr(config, "eos_token_id", None)
        listed = listed if isinstance(listed, list | tuple) else [listed]
        return frozenset(
            token for token in (*listed, self.tokenizer.eos_token_id) if token is not None
        )

    def ends_line(self, token: int) -> bool:
        """Whether a token ends a line or the text."""
        return token in self.end_tokens or "\n" in self.tokenizer.decode([token])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, with the special tokens a prompt gets.

        Raises:
            PromptError: If a text has no token, more than the model can take, or one that it does
                not know.
        """
        encoded = [self.tokenize(text) for text in texts]
        for text, ids in zip(texts, encoded, strict=True):
            self.check_length(ids, text)
        return encoded

    def chat(self, message: str) -> str:
        """The text to read for a user's message, in the tokenizer's chat template.

        Raises:
            PromptError: The tokenizer has none.
        """
        return chat_text(self.tokenizer, message)

    def fits(self, ids: Sequence[int]) -> bool:
        """Whether the context holds so many tokens."""
        return self.max_tokens is None or len(ids) <= self.max_tokens

    def check_length(self, ids: Sequence[int], text: str) -> None:
        """Refuse a prompt without tokens, beyond the context, or with tokens of another model.

        Raises:
            PromptError: If it is any of these.
        """
        shown = repr(text if len(text) <= 60 else f"{text[:57]}...")
        if not ids:
            raise PromptError("A prompt has no token", shown)
        if max(ids) >= self.n_known:
            token = self.tokenizer.decode([max(ids)])
            raise PromptError(
                f"{self.name} does not know the token {token!r} ({max(ids)}): its {self.n_known} "
                "tokens are fewer than the tokenizer's",
                shown,
                "Leave it out of the text, or take the tokenizer that the model was trained with "
                "(or resize_token_embeddings, where it was extended).",
            )
        if not self.fits(ids):
            raise PromptError(
                f"A prompt has {len(ids)} tokens; {self.name} takes {self.max_tokens}",
                shown,
                "Shorten it or use a model with a longer context.",
            )

    def pad(self, tokens: Sequence[Sequence[int]]) -> TokenBatch:
        """Left-pad token lists into one batch on the model's device."""
        width = max(len(ids) for ids in tokens)
        pad = self.tokenizer.pad_token_id
        pad = pad if pad is not None else self.tokenizer.eos_token_id or 0
        pad = pad if pad < self.n_known else 0  # added to the tokenizer alone; masked anyway
        ids = torch.full((len(tokens), width), pad, dtype=torch.long)
        mask = torch.zeros((len(tokens), width), dtype=torch.long)
        for row, listed in enumerate(tokens):
            ids[row, width - len(listed) :] = torch.tensor(listed)
            mask[row, width - len(listed) :] = 1
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        return TokenBatch(ids.to(self.device), mask.to(self.device), positions.to(self.device))
