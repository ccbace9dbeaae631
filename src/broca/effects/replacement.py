"""What stands in a replaced neuron's place: zero, its mean, or its value in another prompt.

``zero`` asks what the neuron adds at all; ``mean`` what it adds beyond what it always does;
``resample``, the hardest, whether this prompt needs this value rather than another prompt's.

Source: METHODS, "Statistics"; resample ablation: Chan et al. 2022 (causal scrubbing).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from broca.effects.aims import Aim, PromptLike
from broca.errors import EffectError
from broca.facts.seeding import stable_random
from broca.model import LanguageModel
from broca.prompts import Prompt

REPLACEMENTS = ("zero", "mean", "resample")
_BATCH = 32


class Replacements:
    """Gives every prompt what stands in its neurons' place.

    Args:
        model: The model under study.
        kind: ``zero``, ``mean`` or ``resample``.
        reference: Prompts whose values at the last token are averaged or drawn from.
        seed: Draws the reference prompt of each prompt (``resample``).

    Raises:
        EffectError: If the kind is unknown or needs reference prompts and got none.
    """

    def __init__(
        self,
        model: LanguageModel,
        kind: str,
        reference: Sequence[PromptLike] | None = None,
        seed: int = 0,
    ) -> None:
        if kind not in REPLACEMENTS:
            raise EffectError(
                f"Unknown replacement {kind!r}", mend=f"Use one of {', '.join(REPLACEMENTS)}."
            )
        if kind != "zero" and not reference:
            raise EffectError(
                f"The replacement {kind!r} takes its values from other prompts and got none",
                mend='Pass reference= prompts, or use replacement="zero".',
            )
        self.kind, self.seed = kind, seed
        self.reference = list(reference or ())
        if kind == "zero":
            self._values = torch.zeros(1, model.n_layers, model.identity.width("hidden"))
        else:
            self._values = last_values(model, self.reference)
            if kind == "mean":
                self._values = self._values.mean(0, keepdim=True)

    def values(self, prompt: PromptLike, aim: Aim) -> Tensor:
        """The values for one prompt, [layer, neuron].

        Raises:
            EffectError: If every reference prompt is the prompt itself.
        """
        if self.kind != "resample":
            return self._values[0]
        others = [i for i, other in enumerate(self.reference) if _differs(prompt, other)]
        relation = getattr(prompt, "relation", "")
        elsewhere = [
            i for i in others if relation and getattr(self.reference[i], "relation", "") != relation
        ]
        chosen = elsewhere or others
        if not chosen:
            raise EffectError(
                "A resample needs a reference prompt other than the prompt itself",
                f"prompt {aim.id}",
            )
        return self._values[stable_random(self.seed, "resample", aim.id).choice(chosen)]


def _differs(prompt: PromptLike, other: PromptLike) -> bool:
    if isinstance(prompt, Prompt) and isinstance(other, Prompt):
        return prompt.text != other.text
    return prompt != other


@torch.no_grad()
def last_values(model: LanguageModel, prompts: Sequence[PromptLike]) -> Tensor:
    """Hidden values at the last token of prompts, float32 [prompt, layer, neuron].

    Raises:
        PromptError: If a prompt has no token or exceeds the context.
    """
    tokens = [prompt_tokens(model, prompt) for prompt in prompts]
    found = torch.zeros(len(tokens), model.n_layers, model.identity.width("hidden"))
    for rows in model.batches([len(ids) for ids in tokens], _BATCH):
        for layer, values in enumerate(_pass(model, [tokens[i] for i in rows])):
            found[rows, layer, : values.shape[-1]] = values
    return found


def _pass(model: LanguageModel, tokens: Sequence[Sequence[int]]) -> list[Tensor]:
    kept: list[Tensor] = [torch.empty(len(tokens), 0)] * model.n_layers
    with ExitStack() as stack:
        for layer in range(model.n_layers):
            if "hidden" not in model.block(layer).widths():
                continue

            def keep(values: Tensor, layer: int = layer) -> None:
                kept[layer] = values[:, -1].float().cpu()

            stack.enter_context(model.watch("hidden", layer, keep))
        model.logits(model.pad(tokens))
    return kept


def prompt_tokens(model: LanguageModel, prompt: PromptLike) -> list[int]:
    """Token ids of a prompt, a text, or token ids themselves."""
    if isinstance(prompt, (Prompt, str)):
        return model.encode([prompt if isinstance(prompt, str) else prompt.text])[0]
    tokens = [int(token) for token in prompt]
    model.check_length(tokens, f"{len(tokens)} token ids")
    return tokens
