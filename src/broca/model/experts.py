"""Experts of a mixture as neurons, through transformers' own experts interface.

While a function is set on the experts of a layer, ``config._experts_implementation`` names the one
registered here. It computes what the interface's grouped form computes, token by token sorted by
expert, and hands the values at each site to the function; layers on which nothing is set run the
implementation they had. Afterwards the name is put back.

A *slot* is a token at one of the experts it is routed to. Experts that a token is not routed to are
not computed: their neurons count as 0 there, and putting something in their place does nothing.

Source: transformers.integrations.moe (ExpertsInterface).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, _grouped_linear

from broca.errors import ModelError
from broca.model.numbers import is_numbers
from broca.model.parts import get

NAME = "broca_experts"


@dataclass(frozen=True)
class Slots:
    """Which tokens are at which experts, each [slot]; tokens are counted over the whole batch.

    Attributes:
        tokens: Token of each slot, int64.
        experts: Its expert, int64.
        n_tokens: Tokens in the batch.
    """

    tokens: Tensor
    experts: Tensor
    n_tokens: int


SlotFunction = Callable[[Tensor, Slots], Tensor | None]
Routing = tuple[Tensor, Tensor]  # experts and their weights, each [token, choice]


@dataclass
class _Watched:
    """What is done in one experts module while something is set on it."""

    functions: dict[str, list[SlotFunction]] = field(default_factory=dict)
    routings: list[Callable[[Routing], Routing | None]] = field(default_factory=list)


@dataclass(frozen=True)
class ExpertPart:
    """The experts of one layer.

    Attributes:
        module: The module that keeps them stacked.
        number: How many experts.
        width: Neurons of each.
        d_model: Width of what they write.
        dense: Whether every token is computed at every expert (Llama 4): tokens that are not
            routed to one enter it as zeros.
        router: The module that weighs tokens before such experts, None for the others.
    """

    module: nn.Module
    number: int
    width: int
    d_model: int
    dense: bool = False
    router: nn.Module | None = None

    @property
    def total(self) -> int:
        """Neurons of all experts."""
        return self.number * self.width

    @property
    def has_gate(self) -> bool:
        return self.dense or bool(self.module.has_gate)

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites the experts have."""
        return ("gate", "up", "hidden") if self.has_gate else ("up", "hidden")

    @property
    def transposed(self) -> bool:
        """Whether weights are stored as [expert, in, out]."""
        return self.dense or bool(self.module.is_transposed)

    def value_column(self, index: int) -> Tensor:
        """Value vector of a neuron, [d_model], a view.

        Raises:
            ModelError: If the weights are quantised.
        """
        weight: Any = self.module.down_proj
        if not is_numbers(weight):
            raise ModelError(
                "The experts are quantised; their value vectors cannot be read",
                type(self.module).__name__,
                "Load the model without quantization_config.",
            )
        expert, unit = divmod(index, self.width)
        return weight[expert, unit] if self.transposed else weight[expert, :, unit]

    def input_rows(self, site: str, index: int) -> list[Tensor]:
        """Views of the weights (and bias) that compute gate or up of one neuron."""
        expert, unit = divmod(index, self.width)
        weight: Any = getattr(self.module, "gate_up_proj" if self.has_gate else "up_proj")
        bias: Any = getattr(self.module, "gate_up_proj_bias", None)
        if not self.has_gate:
            row = unit
        elif getattr(self.module, "is_concatenated", True):
            row = unit + (self.width if site == "up" else 0)
        else:
            row = 2 * unit + (site == "up")
        found = [weight[expert, :, row] if self.transposed else weight[expert, row]]
        return found if bias is None else [*found, bias[expert, row]]

    @torch.no_grad()
    def gate_rules(self) -> tuple[bool, bool]:
        """Whether hidden is linear in up, and whether it is 0 where the gate (or plain up) is."""
        module: Any = self.module
        device = module.down_proj.device
        zero, one = torch.zeros(1, 1, device=device), torch.ones(1, 1, device=device)
        if not self.has_gate:
            return False, not module.act_fn(zero).any()
        if self.dense:
            return True, not module.act_fn(zero).any()
        both = (lambda g, u: torch.cat([g, u], 1)) if module.is_concatenated else None
        join = both or (lambda g, u: torch.stack([g, u], -1).flatten(1))
        apply = lambda g, u: module._apply_gate(join(g, u).to(module.down_proj.dtype))  # noqa: E731
        twice, once = apply(one, 2 * one), apply(one, one)
        linear = bool(torch.allclose(twice, 2 * once)) and not apply(one, zero).any()
        return linear, not apply(zero, one).any()

    @contextmanager
    def touched(self, site: str, function: SlotFunction) -> Iterator[None]:
        """Call a function on the values [slot, neuron of the expert] at a site in every pass.

        What it returns takes their place; None leaves them.
        """
        with self._watched() as watched:
            listed = watched.functions.setdefault(site, [])
            listed.append(function)
            try:
                yield
            finally:
                listed.remove(function)

    @contextmanager
    def rerouted(self, function: Callable[[Routing], Routing | None]) -> Iterator[None]:
        """Call a function on which experts were chosen, and their weights, [token, choice] each.

        Of experts that compute every token these are the router's own outputs, [token, expert].
        """
        if self.router is not None:

            def after(module: nn.Module, args: Any, output: Any) -> Any:
                return function(output)

            handle = self.router.register_forward_hook(after)
            try:
                yield
            finally:
                handle.remove()
            return
        with self._watched() as watched:
            watched.routings.append(function)
            try:
                yield
            finally:
                watched.routings.remove(function)

    @contextmanager
    def _watched(self) -> Iterator[_Watched]:
        known = self.module.__dict__.get("_broca_watched")
        if known is not None:
            yield known
            return
        config: Any = self.module.config if not self.dense else None
        watched = _Watched()
        self.module.__dict__["_broca_watched"] = watched
        try:
            with _forward_replaced(self.module) if self.dense else _named_here(config):
                yield watched
        finally:
            del self.module.__dict__["_broca_watched"]


_BEFORE: dict[int, str | None] = {}  # by configuration, while it names our implementation


@contextmanager
def _named_here(config: Any) -> Iterator[None]:
    """Let a configuration, shared by all layers, name our implementation."""
    if id(config) in _BEFORE:
        yield
        return
    _BEFORE[id(config)] = config._experts_implementation_internal
    config._experts_implementation_internal = NAME
    try:
        yield
    finally:
        config._experts_implementation_internal = _BEFORE.pop(id(config))


@contextmanager
def _forward_replaced(module: nn.Module) -> Iterator[None]:
    """Hooks of accelerate stand in the instance too: they are put back."""
    own = module.__dict__.get("forward")
    module.__dict__["forward"] = partial(_dense_forward, module)
    try:
        yield
    finally:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = own


def find_experts(layer: nn.Module, number: int, config) -> tuple[str | None, ExpertPart | None]:
    """The experts of a block and their path in it, (None, None) for a block without.

    Raises:
        ModelError: If experts are spread over several processes.
    """
    found = [(name, module) for name, module in layer.named_modules() if _is_experts(module)]
    if not found:
        return None, None
    if len(found) > 1:
        raise ModelError(
            f"{config.model_type} has several groups of experts in one layer",
            f"layer {number}: {', '.join(name for name, _ in found)}",
        )
    name, module = found[0]
    if getattr(module, "_is_expert_parallel", False):
        raise ModelError(
            "Experts that are spread over several processes cannot be reached",
            f"layer {number}, module {name}",
            "Load the model with device_map instead of tensor or expert parallelism.",
        )
    dense = not hasattr(module, "_apply_gate")
    down: Any = module.down_proj
    transposed = dense or bool(module.is_transposed)
    parent = get(layer, name.rpartition(".")[0])
    router = getattr(parent, "router", None) if dense else None
    width, d_model = down.shape[1:] if transposed else down.shape[:0:-1]
    return name, ExpertPart(module, down.shape[0], width, d_model, dense, router)


def _is_experts(module: nn.Module) -> bool:
    down = getattr(module, "down_proj", None)
    stacked = isinstance(down, nn.Parameter) and down.dim() == 3
    through_interface = hasattr(module, "_apply_gate") and hasattr(module, "has_gate")
    return stacked and (through_interface or type(module).__name__ == "Llama4TextExperts")


# ---- the implementation


def _experts(
    module: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> Tensor:
    """What the interface computes; sites are handed out in between."""
    watched: _Watched | None = module.__dict__.get("_broca_watched")
    if watched is None:
        before = _BEFORE[id(module.config)]
        original = type(module).forward.__wrapped__  # the family's own loop
        implementation = ALL_EXPERTS_FUNCTIONS.get_interface(before or "eager", original)
        return implementation(module, hidden_states, top_k_index, top_k_weights)
    for routing in watched.routings:
        new = routing((top_k_index, top_k_weights))
        top_k_index, top_k_weights = new or (top_k_index, top_k_weights)
    n_tokens, n_choices = top_k_index.shape
    chosen = top_k_index.reshape(-1)
    order = torch.argsort(chosen, stable=True)
    slots = Slots(order // n_choices, chosen[order], n_tokens)
    ends = torch.bincount(chosen, minlength=module.num_experts).cumsum(0).to(torch.int32)
    hidden = _hidden(module, watched, hidden_states[slots.tokens], slots, ends)
    bias = module.down_proj_bias[slots.experts] if module.has_bias else None
    out = _grouped_linear(
        hidden, module.down_proj, ends, bias=bias, is_transposed=module.is_transposed
    )
    if module.has_post_expert_norm:
        out = module.post_expert_norm(out)
    out = out * top_k_weights.reshape(-1)[order].unsqueeze(-1)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    summed = out[back].view(n_tokens, n_choices, -1).sum(1)
    return summed.to(hidden_states.dtype)


def _hidden(module: Any, watched: _Watched, rows: Tensor, slots: Slots, ends: Tensor) -> Tensor:
    """Values of hidden, [slot, neuron], by whatever functions are set."""
    weight = module.gate_up_proj if module.has_gate else module.up_proj
    name = "gate_up_proj_bias" if module.has_gate else "up_proj_bias"
    bias = getattr(module, name)[slots.experts] if module.has_bias else None
    product = _grouped_linear(rows, weight, ends, bias=bias, is_transposed=module.is_transposed)
    if not module.has_gate:
        product = _handed(watched, "up", product, slots)
        return _handed(watched, "hidden", module.act_fn(product), slots)
    for number, site in enumerate(("gate", "up")):
        if watched.functions.get(site):
            product = _with_half(module, watched, product, number, site, slots)
    return _handed(watched, "hidden", module._apply_gate(product), slots)


def _with_half(
    module: Any, watched: _Watched, product: Tensor, number: int, site: str, slots: Slots
) -> Tensor:
    width = product.shape[-1] // 2
    if module.is_concatenated:
        where = torch.arange(number * width, (number + 1) * width, device=product.device)
    else:
        where = torch.arange(number, 2 * width, 2, device=product.device)
    half = product[..., where]
    new = _handed(watched, site, half, slots)
    return product if new is half else product.index_copy(-1, where, new)


def _handed(watched: _Watched, site: str, values: Tensor, slots: Slots) -> Tensor:
    for function in watched.functions.get(site, ()):
        new = function(values, slots)
        values = values if new is None else new
    return values


def _dense_forward(module: Any, hidden_states: Tensor) -> Tensor:
    """Llama 4: every expert computes every token; weights are on what enters."""
    watched: _Watched = module.__dict__["_broca_watched"]
    states = hidden_states.view(module.num_experts, -1, module.hidden_size)
    n_experts, n_tokens, _ = states.shape
    experts = torch.arange(n_experts, device=states.device).repeat_interleave(n_tokens)
    tokens = torch.arange(n_tokens, device=states.device).repeat(n_experts)
    slots = Slots(tokens, experts, n_tokens)
    gate, up = (part.flatten(0, 1) for part in torch.bmm(states, module.gate_up_proj).chunk(2, -1))
    gate, up = (_handed(watched, s, v, slots) for s, v in (("gate", gate), ("up", up)))
    hidden = _handed(watched, "hidden", up * module.act_fn(gate), slots)
    out = torch.bmm(hidden.view(n_experts, n_tokens, -1), module.down_proj)
    return out.view(-1, module.hidden_size)


ALL_EXPERTS_FUNCTIONS.register(NAME, _experts)


# ---- all experts of a layer as one wide tensor


def spread(values: Tensor, slots: Slots, n_experts: int) -> Tensor:
    """Values [slot, neuron] as [token, expert, neuron], 0 where a token is not at an expert."""
    empty = values.new_zeros(slots.n_tokens, n_experts, values.shape[-1])
    return empty.index_put((slots.tokens, slots.experts), values)


def gathered(dense: Tensor, slots: Slots) -> Tensor:
    """The slots' values [slot, neuron] of [token, expert, neuron]."""
    return dense[slots.tokens, slots.experts]
