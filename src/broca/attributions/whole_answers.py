"""Attribution of the probability of a whole answer of one or more tokens.

P(answer) = P_1 · P_2 · ... · P_k, where P_j is the probability of its j-th token after the prompt
and the tokens before it. A neuron's value at the position that token j is read from moves P_j; by
the product rule, the others held, it moves P(answer) by the product of the others as much:

    NA(l, i) = sum over j of  w_j · NA_j(l, i),     w_j = product over k ≠ j of P_k

with NA_j the attribution of P_j at its own last position (:mod:`broca.attributions.attribute`).
An answer of one token has w_1 = 1: the rule of the paper's letters. What a value at one token's
position does to later tokens through attention is left out.

Source: ours (METHODS §3, §9); NA-ICA (arXiv 2406.10868) attributes letters, of one token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from broca.attributions.attribute import attribute_each
from broca.attributions.attribution import NO_EFFECT, Attribution, join_answer
from broca.errors import AttributionError
from broca.model import LanguageModel


def attribute_whole_answers(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    ids: Sequence[str] | None = None,
    **options: Any,
) -> Iterator[Attribution]:
    """Yield the attribution of the probability of each prompt's answer.

    Args:
        model: The model under study.
        prompts: Token ids of each prompt.
        answers: Token ids of each answer.
        ids: Ids of the prompts; their numbers by default.
        **options: As in :func:`broca.attribute_neurons`: site, n_steps, method, path, form,
            internal_batch_size, dtype.

    Yields:
        Attributions whose ``probability`` is P(answer); ``p_zero`` is ``probability`` minus the
        weighted changes of all tokens, [layer]; ``completeness_error`` is that of the weighted
        sum, and ``step_change`` an upper bound of its change.

    Raises:
        AttributionError: As in :func:`broca.attribute_neurons`, or an answer has no token.
        PromptError: A prompt with its answer exceeds the context.
    """
    if len(prompts) != len(answers) or not all(map(len, answers)):
        raise AttributionError("Every prompt needs an answer of at least one token")
    texts, targets = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        for number, token in enumerate(answer):
            texts.append([*prompt, *answer[:number]])
            targets.append(int(token))
    names = [str(number) for number in range(len(prompts))] if ids is None else ids
    return _joined(attribute_each(model, texts, target=targets, **options), answers, names)


def _joined(
    parts: Iterator[Attribution], answers: Sequence[Sequence[int]], ids: Sequence[str]
) -> Iterator[Attribution]:
    for answer, name in zip(answers, ids, strict=True):
        yield replace(join_product([next(parts) for _ in answer]), prompt_id=name)


def join_product(parts: Sequence[Attribution]) -> Attribution:
    """One attribution for the product of the parts' probabilities, by the product rule."""
    if len(parts) == 1:
        return parts[0]
    p = np.array([part.probability for part in parts])
    weights = [float(np.prod(np.delete(p, number))) for number in range(len(parts))]

    def total(name: str) -> Any:
        return sum(w * getattr(part, name) for w, part in zip(weights, parts, strict=True))

    values = total("values").astype(np.float32)
    change = sum(
        w * (part.probability - part.p_zero) for w, part in zip(weights, parts, strict=True)
    )
    delta = total("convergence_delta")
    largest = max(float(np.abs(values).max()), float(np.finfo(np.float32).tiny))
    steps = sum(
        w * part.step_change * float(np.abs(part.values).max())
        for w, part in zip(weights, parts, strict=True)
    )
    reached = float(np.prod(p))
    return replace(
        join_answer(parts),
        values=values,
        probability=reached,
        p_zero=reached - change,
        convergence_delta=delta,
        completeness_error=float(np.abs(delta).max() / max(np.abs(change).max(), NO_EFFECT)),
        step_change=steps / largest,
    )
