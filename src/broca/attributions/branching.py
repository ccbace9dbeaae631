"""The four ways to evaluate P and its gradient at scaled values of a layer's neurons.

All take the same request (layers, factors) and give the same answer; they differ in what they
need of the model and in speed (METHODS: "The fast exact attribution").

1. *wavefront*: rows join behind their layer, starting at ``output - tail(W h) + tail(a W h)``;
   where the tail is linear the leaves are these rows themselves and the layer's own product is
   spent once per layer, not once per factor.
2. *packed*: copies of the last token behind the prompt, scaled at the site by hooks.
3. *rows*: copies as batch rows on the prefix's cache, scaled at the site by hooks.
4. *whole*: copies as whole prompts, scaled at the site by hooks.

In a mixture of experts the scaled neurons are those of the experts that the last token reaches; on
the ``frozen`` routing it reaches the same experts, with the same weights, in every layer above.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from broca.attributions.tails import Tail, make_tail
from broca.errors import ModelError
from broca.model import LanguageModel
from broca.model.branches import (
    BasePass,
    BranchesRefusedError,
    mixture_output,
    routing_held,
    run_packed,
    run_rows,
    run_wavefront,
    run_whole,
)

FORMS = ("wavefront", "packed", "rows", "whole")
ROUTINGS = ("frozen", "free")
OBJECTIVES = ("probability", "log-probability")


@dataclass(frozen=True)
class Path:
    """What is scaled and what is read.

    Attributes:
        site: ``hidden`` or ``up``.
        kind: ``frozen-norm`` or ``raw``, see :mod:`broca.attributions.tails`.
        objective: ``probability`` or ``log-probability`` of the target token.
        routing: ``frozen`` or ``free``: whether the experts of the layers above are those of the
            untouched pass. Along free routing P jumps where an expert changes.
    """

    site: str = "hidden"
    kind: str = "frozen-norm"
    objective: str = "probability"
    routing: str = "frozen"

    def read(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The objective [prompt, row] of logits [prompt, row, vocab]."""
        index = targets[:, None, None].expand(-1, logits.shape[1], 1)
        log_p = logits.gather(-1, index)[..., 0] - logits.logsumexp(-1)
        return log_p if self.objective == "log-probability" else log_p.exp()


@dataclass(frozen=True)
class Samples:
    """The objective at scaled values, and its gradients in the form's own leaf space.

    Attributes:
        objective: float32, [prompt, layer, step].
        gradients: Per layer, [prompt, step, leaf]; empty if not asked for.
    """

    objective: Tensor
    gradients: list[Tensor]


@dataclass
class Branches:
    """A batch of prompts ready to be sampled: the base pass and each layer's tail."""

    model: LanguageModel
    base: BasePass
    targets: Tensor
    path: Path
    tails: list[Tail] = field(default_factory=list)

    def __post_init__(self) -> None:
        base = self.base
        self.tails = [
            make_tail(self.model.block(layer), self.path.kind, base.down[layer], base.normed[layer])
            for layer in range(self.model.n_layers)
        ]

    def select(self, prompts: Tensor) -> Branches:
        """The same of some prompts of the batch."""
        if len(prompts) == len(self.base):
            return self
        targets = self.targets[prompts.to(self.targets.device)]
        return Branches(self.model, self.base.select(prompts), targets, self.path)

    def objective(self) -> Tensor:
        """The objective with nothing scaled, [prompt]."""
        return self.path.read(self.base.logits.unsqueeze(1), self.targets)[:, 0]

    def sample(self, form: str, layers: range, factors: Tensor, with_gradients: bool) -> Samples:
        """Scale the last token's values in each of some layers by each factor.

        Args:
            form: One of :data:`FORMS`.
            layers: The layers, one at a time.
            factors: float, [step].
            with_gradients: Whether gradients are wanted.

        Raises:
            BranchesRefusedError: If the model cannot be driven in this form.
        """
        sampler = _Wavefront if form == "wavefront" else _Hooked
        routing = nullcontext()
        if self.path.routing == "frozen" and self.model.identity.experts:
            beside = form in ("wavefront", "packed")
            routing = routing_held(
                self.model, self.base, len(layers) * len(factors) if beside else 1
            )
        with torch.set_grad_enabled(with_gradients), routing:
            run = sampler(self, layers, factors, form)
            objective = self.path.read(run.logits(), self.targets)
            gradients = _gradients(objective, run.leaves) if with_gradients else ()
        objective = objective.detach().unflatten(1, (len(layers), len(factors)))
        return Samples(objective, [gradient.float() for gradient in gradients])

    def attribute(self, form: str, layer: int, sums: Tensor) -> Tensor:
        """Neuron attributions [prompt, rule, neuron] from weighted sums of leaf gradients."""
        base = self.base
        if form != "wavefront":
            return sums * base.site_values[layer].unsqueeze(1)
        hidden = base.hidden[layer].unsqueeze(1)
        if self.tails[layer].linear:
            sums = self.tails[layer].pulled_back(sums)
        return self._through_down(layer, sums).float() * hidden.float()

    def _through_down(self, layer: int, sums: Tensor) -> Tensor:
        """Gradients by hidden values [.., d_ff] from gradients by the product [.., d_model]."""
        if not self.model.block(layer).has_neurons:
            return sums[..., :0]
        if self.model.block(layer).experts is not None:
            return self._through_experts(layer, sums)
        try:
            weight = self.model.value_weight(layer)
        except ModelError:  # quantised: only the module itself can multiply
            hidden = self.base.hidden[layer].unsqueeze(1).repeat(1, sums.shape[1], 1)
            with torch.enable_grad():
                hidden.requires_grad_()
                product = self.model.block(layer).source("hidden")(hidden)
                return torch.autograd.grad(product, hidden, sums.to(product.dtype))[0]
        return sums.to(weight) @ weight

    def _through_experts(self, layer: int, sums: Tensor) -> Tensor:
        """The same by gradients of what experts and shared expert put out at the last token."""
        hidden = self.base.hidden[layer].detach().clone()
        with torch.enable_grad():
            hidden.requires_grad_()
            output = mixture_output(self.model, self.base, layer, hidden)
            found = [
                torch.autograd.grad(output, hidden, part.to(output), retain_graph=True)[0]
                for part in sums.unbind(1)
            ]
        return torch.stack(found, 1)


def _gradients(objective: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """Gradients by every leaf; zeros by those of layers without neurons."""
    found = torch.autograd.grad(objective.sum(), leaves, allow_unused=True)
    return [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, found, strict=True)
    ]


class _Wavefront:
    """Leaves: rows of the residual stream behind the layer (raw post-norm path: products)."""

    def __init__(self, branches: Branches, layers: range, factors: Tensor, form: str) -> None:
        model, path = branches.model, branches.path
        if path.site == "up" and "gate" not in model.sites:
            raise BranchesRefusedError("the path over 'up' of a plain MLP bends at its activation")
        self.branches, self.layers, self.factors = branches, layers, factors
        self.leaves: list[Tensor] = []

    def logits(self) -> Tensor:
        return run_wavefront(self.branches.model, self.branches.base, self.layers, self._rows)

    def _rows(self, layer: int) -> Tensor:
        base, tail = self.branches.base, self.branches.tails[layer]
        if not tail.block.linear:
            raise BranchesRefusedError(f"layer {layer} changes what its MLP puts out")
        offset = base.offset[layer]
        product = (base.down[layer] if offset is None else base.down[layer] - offset).unsqueeze(1)
        output = base.output[layer].unsqueeze(1)
        factors = self.factors[:, None].to(output)
        if tail.linear:
            return self._leaf(output - (1 - factors) * tail(product).to(output.device))
        return output + tail(self._leaf(factors * product)) - tail(product)

    def _leaf(self, value: Tensor) -> Tensor:
        leaf = value.detach().requires_grad_(torch.is_grad_enabled())
        self.leaves.append(leaf)
        return leaf


class _Hooked:
    """Leaves: the site's values themselves, put in place by hooks."""

    def __init__(self, branches: Branches, layers: range, factors: Tensor, form: str) -> None:
        self.branches, self.layers, self.form, self.n_steps = branches, layers, form, len(factors)
        self.leaves = [
            (factors[:, None].to(values) * values.unsqueeze(1))
            .detach()
            .requires_grad_(torch.is_grad_enabled())
            for values in branches.base.site_values[layers.start : layers.stop]
        ]

    def logits(self) -> Tensor:
        branches = self.branches
        run = {"packed": run_packed, "rows": run_rows, "whole": run_whole}[self.form]
        with ExitStack() as stack:
            for position, layer in enumerate(self.layers):
                if branches.path.site not in branches.model.block(layer).widths():
                    continue
                stack.enter_context(self._scaled(position, layer))
            return run(branches.model, branches.base, len(self.layers) * self.n_steps)

    @contextmanager
    def _scaled(self, position: int, layer: int) -> Iterator[None]:
        branches = self.branches
        tail = branches.tails[layer]

        def scale(values: Tensor) -> Tensor:
            return self._replaced(values, position, self.leaves[position])

        def freeze(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            base, frozen = branches.base, tail.frozen
            assert frozen is not None
            own = self._own(args[0], position)
            moved = frozen(own - base.down[layer].unsqueeze(1))
            normed = base.normed[layer]
            assert normed is not None
            return self._replaced(output, position, normed.unsqueeze(1) + moved)

        with branches.model.touch(branches.path.site, layer, scale):
            norm = tail.block.post_mlp_norm
            if norm is None or tail.frozen is None:
                yield
                return
            handle = norm.register_forward_hook(freeze)
            try:
                yield
            finally:
                handle.remove()

    def _branches_of(self, tensor: Tensor) -> Tensor:
        """The branches [prompt, branch, width] in what a module saw."""
        n_branches = len(self.layers) * self.n_steps
        if self.form == "packed":
            return tensor[:, -n_branches:]
        return tensor[:, -1].unflatten(0, (-1, n_branches))

    def _own(self, tensor: Tensor, position: int) -> Tensor:
        start = position * self.n_steps
        return self._branches_of(tensor)[:, start : start + self.n_steps]

    def _replaced(self, tensor: Tensor, position: int, own: Tensor) -> Tensor:
        rows = self._branches_of(tensor)
        start, stop = position * self.n_steps, (position + 1) * self.n_steps
        rows = torch.cat([rows[:, :start], own.to(rows), rows[:, stop:]], dim=1)
        if self.form == "packed":
            return torch.cat([tensor[:, : -rows.shape[1]], rows], dim=1)
        return torch.cat([tensor[:, :-1], rows.flatten(0, 1).unsqueeze(1)], dim=1)
