"""Neuron attribution by integrated gradients, all layers of many prompts at once.

For a prompt with target token y and a layer whose values at the last position are v:

    NA(l, i) = v_i * integral over a in [0, 1] of dP(y; v <- a v) / dv_i

1. One ordinary forward pass per batch of prompts keeps every layer's keys, values and last token.
2. Scaled copies of the last token, for every layer and node, run as branches of it, forward and
   backward (:mod:`broca.attributions.branching`); nothing before the last token is touched.
3. Gradients are weighted by the rule and mapped to neurons once per layer.
4. Sums are held against P(1) - P(0), measured; neurons against a second rule. Prompts that miss
   a tolerance get more nodes, up to a limit; what stays above is told by the result.

Source: NA-ICA (arXiv 2406.10868), section 3; integrated gradients: Sundararajan et al. 2017.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from broca.attributions.attribution import Attribution, Attributions, join_answer
from broca.attributions.branching import ROUTINGS, Branches, Path
from broca.attributions.forms import choose_form
from broca.attributions.integrate import Plan, integrate
from broca.attributions.memory import RowBudget, default_rows
from broca.attributions.precision import (
    TF32,
    computed_in,
    exact_products,
    rounded_products,
    rounds_factors,
    width_of,
)
from broca.attributions.rules import (
    AUTO_LIMIT,
    DEFAULT_STEPS,
    METHODS,
    Rule,
    fixed_rule,
    nested_rules,
)
from broca.attributions.tails import PATHS
from broca.attributions.targets import Item, answer_variants, choose_targets, make_items
from broca.engines.memory import current_limit
from broca.errors import AttributionError
from broca.model import LanguageModel
from broca.model.branches import base_pass
from broca.progress import track
from broca.prompts import Prompt

SITES = ("hidden", "up")
_MOST_PROMPTS = 16  # in one base pass
_MOST_TOKENS = 8192

PromptLike = Prompt | str | Sequence[int]


@dataclass(frozen=True)
class _Settings:
    """Checked settings of one call."""

    path: Path
    method: str
    rules: Sequence[Rule]
    form: str
    rows: int | None
    dtype: torch.dtype
    rounded: bool


def attribute_neurons(
    model: LanguageModel,
    prompts: Sequence[PromptLike],
    *,
    site: str = "hidden",
    target: str | int | Sequence[int] = "answer",
    n_steps: int | None = None,
    method: str = "auto",
    path: str = "frozen-norm",
    routing: str = "frozen",
    form: str = "auto",
    internal_batch_size: int | None = None,
    return_convergence_delta: bool = False,
    dtype: torch.dtype | str | None = None,
    progress: bool = True,
) -> Attributions | tuple[Attributions, object]:
    """Attribute the probability of each prompt's target token to the neurons of all layers.

    Args:
        model: The model under study.
        prompts: Prompts, texts or lists of token ids, of any lengths.
        site: ``hidden``, or ``up`` for parity with public code on plain MLPs.
        target: ``"answer"``: each prompt's own answer, with or without a space before it,
            whichever the model gives more probability; or token ids.
        n_steps: Nodes of a fixed rule (16 by default); the most that ``auto`` may spend (129).
        method: ``auto``, ``riemann-right``, ``riemann-linspace``, ``midpoint`` or
            ``gauss-legendre``, see :mod:`broca.attributions.rules`.
        path: ``frozen-norm`` or ``raw``, see :mod:`broca.attributions.tails`.
        routing: ``frozen`` or ``free``: in a mixture of experts, whether the layers above send
            the last token to the experts of the untouched pass.
        form: ``auto``, ``wavefront``, ``packed`` or ``rows``, see
            :mod:`broca.attributions.branching`.
        internal_batch_size: Branch rows at once; by default what fits about 1 GiB (two thirds of
            what the weights leave of a GPU). Halved whenever memory runs out.
        return_convergence_delta: Whether to return (attributions, deltas [prompt, layer]).
        dtype: Precision; float32 by default, whatever the weights are stored in. "tf32" is
            float32 whose products a GPU may round: several times faster, less exact, and the same
            as float32 on a processor. In any but float32, and where torch is allowed to round,
            the result tells its agreement with float32.
        progress: Whether to show progress.

    Raises:
        AttributionError: If a setting is unknown, a probability or attribution is not finite, or
            the model supports no form.
        PromptError: If a prompt has no token or exceeds the context.
    """
    prompts = _listed(prompts)
    options = {
        "site": site,
        "n_steps": n_steps,
        "method": method,
        "path": path,
        "routing": routing,
        "form": form,
        "internal_batch_size": internal_batch_size,
    }
    found = attribute_each(model, prompts, target=target, dtype=dtype, **options)
    if progress:
        found = track(found, "Attributing", total=len(prompts))
    items = tuple(found)
    agreement = None
    if dtype == TF32 or width_of(dtype) != torch.float32 or rounds_factors(model):
        with exact_products():
            exact = next(attribute_each(model, prompts[:1], target=items[0].target[0], **options))
        largest = max(float(abs(exact.values).max()), 1e-30)
        agreement = float(abs(items[0].values - exact.values).max()) / largest
    attributions = Attributions(items, model.identity, agreement)
    if return_convergence_delta:
        return attributions, attributions.convergence_delta
    return attributions


def attribute_each(
    model: LanguageModel,
    prompts: Sequence[PromptLike],
    *,
    site: str = "hidden",
    target: str | int | Sequence[int] = "answer",
    n_steps: int | None = None,
    method: str = "auto",
    path: str = "frozen-norm",
    routing: str = "frozen",
    form: str = "auto",
    internal_batch_size: int | None = None,
    dtype: torch.dtype | str | None = None,
) -> Iterator[Attribution]:
    """Yield one prompt's attribution after the other: dense arrays need not stay in memory.

    Arguments and errors are those of :func:`attribute_neurons`. A half-precision model is held in
    float32 until the iterator is exhausted or closed.
    """
    settings = _check(
        Path(site, path, "probability", routing), n_steps, method, form, internal_batch_size, dtype
    )
    items = make_items(model, _listed(prompts), target)
    return _attribute_items(model, items, settings)


def attribute_answer_tokens(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    answers: Sequence[Sequence[int]] | None = None,
    site: str = "hidden",
    n_steps: int | None = None,
    method: str = "auto",
    path: str = "frozen-norm",
    routing: str = "frozen",
    form: str = "auto",
    internal_batch_size: int | None = None,
    dtype: torch.dtype | str | None = None,
) -> Iterator[Attribution]:
    """Yield the attribution of whole answers: no multiple-choice proxy in between.

    The sum over the answer's tokens of each token's attribution in log P, at the last position of
    prompt and answer so far. ``probability``, ``p_zero`` and ``convergence_delta`` are sums of
    log P; the figures of convergence are those of the worst token.

    Args:
        model: The model under study.
        prompts: Prompts with answers.
        answers: Token ids of the answer of each prompt; by default the right answer, with or
            without a space before it, to whose first token the model gives most probability.
        site, n_steps, method, path, routing, form, internal_batch_size, dtype: As in
            :func:`attribute_neurons`.

    Raises:
        AttributionError: As in :func:`attribute_neurons`, or if an answer has no token.
        PromptError: If a prompt with its answer exceeds the context.
    """
    settings = _check(
        Path(site, path, "log-probability", routing),
        n_steps,
        method,
        form,
        internal_batch_size,
        dtype,
    )
    prompts = list(prompts)
    chosen = _likeliest(model, prompts) if answers is None else [tuple(a) for a in answers]
    if len(chosen) != len(prompts) or not all(chosen):
        raise AttributionError("Every prompt needs an answer of at least one token")
    items = [
        item
        for prompt, tokens in zip(prompts, chosen, strict=True)
        for item in _answer_items(model, prompt, tokens)
    ]
    return _joined(_attribute_items(model, items, settings), [len(tokens) for tokens in chosen])


def _joined(parts: Iterator[Attribution], lengths: Iterable[int]) -> Iterator[Attribution]:
    for length in lengths:
        yield join_answer([next(parts) for _ in range(length)])


def _answer_items(model: LanguageModel, prompt: Prompt, answer: tuple[int, ...]) -> list[Item]:
    tokens = tuple(model.encode([prompt.text])[0])
    model.check_length((*tokens, *answer), prompt.text)
    return [
        Item(prompt.id, (*tokens, *answer[:number]), (token,))
        for number, token in enumerate(answer)
    ]


def _likeliest(model: LanguageModel, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
    chosen = []
    for prompt in prompts:
        probabilities = model.probabilities([prompt.text])[0]
        variants = answer_variants(model, prompt)
        chosen.append(max(variants, key=lambda tokens: float(probabilities[tokens[0]])))
    return chosen


def _listed(prompts: Sequence[PromptLike]) -> list[PromptLike]:
    return [prompts] if isinstance(prompts, (str, Prompt)) else list(prompts)


def check_attributable(
    model: LanguageModel,
    *,
    site: str = "hidden",
    path: str = "frozen-norm",
    routing: str = "frozen",
    form: str = "auto",
    dtype: torch.dtype | str | None = None,
) -> None:
    """Refuse a model that cannot be attributed, before anything is: measured once, and recalled.

    Arguments are those of :func:`attribute_neurons`.

    Raises:
        AttributionError: A setting is unknown, or the model supports no form.
    """
    wanted = Path(site, path, "probability", routing)
    settings = _check(wanted, None, "auto", form, None, dtype)
    with computed_in(model.module, settings.dtype):
        choose_form(model, settings.path, settings.form)


def _check(
    path: Path,
    n_steps: int | None,
    method: str,
    form: str,
    rows: int | None,
    dtype: torch.dtype | str | None,
) -> _Settings:
    """Refuse unknown settings before any work.

    Raises:
        AttributionError: Naming the setting.
    """
    named = (
        (path.site, SITES, "site"),
        (path.kind, PATHS, "path"),
        (path.routing, ROUTINGS, "routing"),
    )
    for value, known, name in named:
        if value not in known:
            raise AttributionError(
                f"Attribution knows no {name} {value!r}", mend=f"Use one of {', '.join(known)}."
            )
    if method not in METHODS:
        raise AttributionError(
            f"Unknown method {method!r}", mend=f"The methods are {', '.join(METHODS)}."
        )
    if rows is not None and rows < 1:
        raise AttributionError("internal_batch_size must be at least 1", str(rows))
    if method == "auto":
        rules = nested_rules(n_steps or AUTO_LIMIT)
    else:
        rules = [fixed_rule(method, DEFAULT_STEPS if n_steps is None else n_steps).with_zero()]
    return _Settings(path, method, rules, form, rows, width_of(dtype), dtype == TF32)


def _attribute_items(
    model: LanguageModel, items: Sequence[Item], settings: _Settings
) -> Iterator[Attribution]:
    with computed_in(model.module, settings.dtype):
        form = choose_form(model, settings.path, settings.form)
        longest = max(len(item.tokens) for item in items)
        rows = settings.rows or default_rows(model, longest)
        if form == "whole":  # every row is a prompt
            rows = max(1, rows // longest)
        limit = current_limit()
        budget = RowBudget(rows, limit=limit)
        plan = Plan(form, settings.method, settings.rules, budget)
        n_branches = model.n_layers * len(settings.rules[0].nodes)
        at_once = min(_MOST_PROMPTS, budget.rows // n_branches, _MOST_TOKENS // longest)
        prompts = RowBudget(max(1, at_once), "prompts", limit)
        start = 0
        while start < len(items):

            def attribute(count: int, start: int = start) -> list[Attribution]:
                part = _of_one_length(model, items[start : start + count])
                with rounded_products(model) if settings.rounded else nullcontext():
                    return _attribute_batch(model, part, settings.path, plan)

            found = prompts.fit(attribute)
            yield from found
            start += len(found)


def _of_one_length(model: LanguageModel, items: Sequence[Item]) -> Sequence[Item]:
    """The first items that may share a batch: all where padding holds."""
    lengths = [len(item.tokens) for item in items]
    if len(set(lengths)) == 1 or model.drive.pads:
        return items
    other = next(n for n, length in enumerate(lengths) if length != lengths[0])
    return items[:other]


def _attribute_batch(
    model: LanguageModel, items: Sequence[Item], path: Path, plan: Plan
) -> list[Attribution]:
    base = base_pass(model, model.pad([item.tokens for item in items]), path.site)
    targets = choose_targets(items, base.logits)
    return integrate(Branches(model, base, targets, path), items, plan)
