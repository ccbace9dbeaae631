"""Integrate over a batch of prompts: sample, weigh, judge, and spend more nodes where needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from broca.attributions.attribution import (
    COMPLETENESS_TOLERANCE,
    NO_EFFECT,
    STEP_TOLERANCE,
    Attribution,
    check_finite,
)
from broca.attributions.branching import Branches, Samples
from broca.attributions.memory import RowBudget, blocks
from broca.attributions.rules import Rule
from broca.attributions.targets import Item
from broca.progress import pulse


@dataclass(frozen=True)
class Plan:
    """How to integrate.

    Attributes:
        form: Form of the computation.
        method: Name of the rule, for the record.
        rules: Nested rules to go through until both figures are met; a fixed rule is one. All
            have the node 0, where P(0) is read.
        budget: Rows at once.
    """

    form: str
    method: str
    rules: Sequence[Rule]
    budget: RowBudget


@dataclass(frozen=True)
class Integral:
    """Attributions of a batch by one rule, with their figures.

    Attributes:
        values: NA, float32 [prompt, layer, neuron].
        delta: Completeness of every layer, [prompt, layer].
        completeness: Relative error of the worst layer, [prompt].
        change: Relative change of the worst neuron between rule and partner, [prompt].
    """

    values: Tensor
    delta: Tensor
    completeness: Tensor
    change: Tensor


def integrate(branches: Branches, items: Sequence[Item], plan: Plan) -> list[Attribution]:
    """Attribute a batch of prompts.

    Raises:
        AttributionError: If a probability or attribution is not finite, naming the prompt.
    """
    reached = branches.objective()
    for item, value in zip(items, reached.tolist(), strict=True):
        check_finite("The probability of the target", item.id, value)
    pending = torch.arange(len(items))
    results: list[Attribution | None] = [None] * len(items)
    samples: Samples | None = None
    p_zero = reached.unsqueeze(1)
    for rule in plan.rules:
        part = branches.select(pending)
        new = rule.nodes[0 if samples is None else samples.objective.shape[-1] :]
        sampled = sample_all(part, plan, new)
        if samples is None:
            p_zero = sampled.objective[..., int(rule.nodes.argmin())]
        samples = _joined(samples, sampled)
        at = pending.to(reached.device)
        integral = _weigh(part, plan.form, rule, samples, reached[at], p_zero[at])
        met = (integral.completeness <= COMPLETENESS_TOLERANCE) & (
            integral.change <= STEP_TOLERANCE
        )
        effect = (reached[at].unsqueeze(1) - p_zero[at]).abs().amax(1)
        done = met | (effect < NO_EFFECT) | torch.tensor(rule is plan.rules[-1])
        for position in done.nonzero().flatten().tolist():
            number = int(pending[position])
            results[number] = _result(
                items[number], part, position, integral, plan, rule, reached[at], p_zero[at]
            )
        keep = (~done).nonzero().flatten()
        if not len(keep):
            break
        pending = pending[keep.cpu()]
        samples = _selected(samples, keep)
    return [result for result in results if result is not None]


def sample_all(branches: Branches, plan: Plan, nodes: np.ndarray) -> Samples:
    """Sample every prompt and layer at every node, in blocks that fit the memory."""
    factors = torch.as_tensor(nodes, dtype=torch.float32, device=branches.base.logits.device)
    return plan.budget.fit(lambda rows: _sample_blocks(branches, plan.form, factors, rows))


def _sample_blocks(branches: Branches, form: str, factors: Tensor, rows: int) -> Samples:
    n_prompts, n_layers = len(branches.base), branches.model.n_layers
    objective = factors.new_empty(n_prompts, n_layers, len(factors))
    gradients: list[Tensor] = []
    total = n_prompts * n_layers * len(factors)
    done = 0
    for prompts, layers, steps in blocks(n_prompts, n_layers, len(factors), rows):
        pulse(done, total)
        done += len(prompts) * len(layers) * len(steps)
        part = branches.select(torch.arange(prompts.start, prompts.stop))
        cut = slice(steps.start, steps.stop)
        sampled = part.sample(form, layers, factors[cut], True)
        place = slice(prompts.start, prompts.stop)
        objective[place, layers.start : layers.stop, cut] = sampled.objective
        if len(prompts) == n_prompts and len(layers) == n_layers and len(steps) == len(factors):
            return sampled
        for layer, gradient in zip(layers, sampled.gradients, strict=True):
            if len(gradients) <= layer:
                shape = (n_prompts, len(factors), gradient.shape[-1])
                gradients.append(gradient.new_empty(shape))
            gradients[layer][place, cut] = gradient
    return Samples(objective, gradients)


def _joined(old: Samples | None, new: Samples) -> Samples:
    if old is None:
        return new
    gradients = [torch.cat(pair, dim=1) for pair in zip(old.gradients, new.gradients, strict=True)]
    return Samples(torch.cat([old.objective, new.objective], dim=-1), gradients)


def _selected(samples: Samples, keep: Tensor) -> Samples:
    gradients = [gradient[keep.to(gradient.device)] for gradient in samples.gradients]
    return Samples(samples.objective[keep], gradients)


def _weigh(
    branches: Branches, form: str, rule: Rule, samples: Samples, reached: Tensor, p_zero: Tensor
) -> Integral:
    """Weigh the gradients by rule and partner and map them to neurons, layer by layer."""
    both = np.stack([rule.weights, rule.partner])
    values, changes = [], []
    for layer, gradient in enumerate(samples.gradients):
        weights = torch.as_tensor(both, dtype=torch.float32, device=gradient.device)
        rules = branches.attribute(form, layer, weights @ gradient).to(reached.device)
        missing = branches.model.identity.width(branches.path.site) - rules.shape[-1]
        rules = torch.nn.functional.pad(rules, (0, missing))  # layers of unequal width
        values.append(rules[:, 0])
        changes.append((rules[:, 0] - rules[:, 1]).abs().amax(1))
    stacked = torch.stack(values, 1)
    effect = reached.unsqueeze(1) - p_zero
    delta = stacked.sum(-1, dtype=torch.float64) - effect
    largest = stacked.abs().amax((1, 2)).clamp(min=torch.finfo(torch.float32).tiny)
    change = torch.stack(changes, 1).amax(1) / largest
    if rule.n_steps == 1:  # one node tells nothing about its own error
        change = torch.full_like(change, torch.inf)
    completeness = delta.abs().amax(1) / effect.abs().amax(1).clamp(min=NO_EFFECT)
    return Integral(stacked, delta, completeness, change)


def _result(
    item: Item,
    branches: Branches,
    position: int,
    integral: Integral,
    plan: Plan,
    rule: Rule,
    reached: Tensor,
    p_zero: Tensor,
) -> Attribution:
    values = integral.values[position].cpu().numpy()
    check_finite("An attribution", item.id, values)
    widest = integral.values.shape[-1]
    activations = [
        torch.nn.functional.pad(site[position].float().cpu(), (0, widest - site.shape[-1]))
        for site in branches.base.site_values
    ]
    return Attribution(
        prompt_id=item.id,
        target=(int(branches.targets[position]),),
        values=values,
        activations=torch.stack(activations).numpy(),
        probability=float(reached[position]),
        p_zero=p_zero[position].double().cpu().numpy(),
        convergence_delta=integral.delta[position].cpu().numpy(),
        completeness_error=float(integral.completeness[position]),
        step_change=float(integral.change[position]),
        n_steps=rule.n_steps,
        form=plan.form,
        path=branches.path.kind,
        site=branches.path.site,
        method=plan.method,
    )
