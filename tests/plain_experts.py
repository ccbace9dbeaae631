"""The slow, obvious mixture of experts: token by token, choice by choice, in plain Python.

Nothing of ``broca.model.experts`` is used: the experts' ``forward`` is replaced in the instance, so
that any value of the last token can be set, and its routing kept.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class Plain:
    """What one pass saw at the last token, by layer, and what it is told to put there.

    Attributes:
        routing: Experts and weights of the last token, [choice] each; kept if ``held``.
        hidden: Values of its experts, [choice, neuron] (Llama 4: [expert, neuron]).
        shared: Values of the shared expert, [neuron].
        put: Values to put instead, by layer: (experts, shared).
    """

    routing: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    hidden: dict[int, Tensor] = field(default_factory=dict)
    shared: dict[int, Tensor] = field(default_factory=dict)
    put: dict[int, tuple[Tensor | None, Tensor | None]] = field(default_factory=dict)
    held: bool = False


def experts_of(layer: nn.Module) -> nn.Module | None:
    for name, module in layer.named_modules():
        stacked = isinstance(getattr(module, "down_proj", None), nn.Parameter)
        if name.endswith("experts") and stacked:
            return module
    return None


def shared_of(layer: nn.Module) -> nn.Module | None:
    """The down projection of a shared expert, or of the MLP of a layer without experts."""
    for name, module in layer.named_modules():
        if name.rpartition(".")[2] in ("down_proj", "w2", "output_linear"):
            return module
    return None


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool) -> Tensor:
    out = x @ weight if transposed else weight @ x
    return out if bias is None else out + bias


def _token_forward(module, plain: Plain, layer: int):
    def forward(hidden_states, top_k_index, top_k_weights):
        rows = []
        last = len(hidden_states) - 1
        for token, x in enumerate(hidden_states):
            index, weights = top_k_index[token], top_k_weights[token]
            if token == last:
                if plain.held and layer in plain.routing:
                    index, weights = plain.routing[layer]
                else:
                    plain.routing[layer] = (index.clone(), weights.detach().clone())
            values = []
            out = torch.zeros_like(x)
            for choice, expert in enumerate(index.tolist()):
                h = _hidden(module, x, expert)
                values.append(h)
                put = plain.put.get(layer, (None, None))[0] if token == last else None
                h = h if put is None else put[choice]
                bias = module.down_proj_bias[expert] if module.has_bias else None
                y = _linear(h, module.down_proj[expert], bias, module.is_transposed)
                out = out + weights[choice] * y
            if token == last:
                plain.hidden[layer] = torch.stack(values).detach()
            rows.append(out)
        return torch.stack(rows)

    return forward


def _hidden(module, x: Tensor, expert: int) -> Tensor:
    name = "gate_up_proj" if module.has_gate else "up_proj"
    bias = getattr(module, f"{name}_bias")[expert] if module.has_bias else None
    product = _linear(x, getattr(module, name)[expert], bias, module.is_transposed)
    return (module._apply_gate if module.has_gate else module.act_fn)(product[None])[0]


def _dense_forward(module, plain: Plain, layer: int):
    def forward(hidden_states):
        states = hidden_states.view(module.num_experts, -1, module.hidden_size)
        out = []
        for expert, rows in enumerate(states):
            gate, up = (rows @ module.gate_up_proj[expert]).chunk(2, -1)
            hidden = up * module.act_fn(gate)
            plain.hidden.setdefault(layer, torch.zeros(len(states), hidden.shape[-1]))
            if not plain.held:
                plain.hidden[layer][expert] = hidden[-1].detach()
            put = plain.put.get(layer, (None, None))[0]
            if put is not None:
                hidden = torch.cat([hidden[:-1], put[expert][None]])
            out.append(hidden @ module.down_proj[expert])
        return torch.cat(out)

    return forward


@contextmanager
def plain_experts(layers, plain: Plain):
    """Let every layer's experts, routers and shared expert run the plain way."""
    with ExitStack() as stack:
        for number, layer in enumerate(layers):
            module, shared = experts_of(layer), shared_of(layer)
            if shared is not None:
                stack.callback(shared.register_forward_pre_hook(_shared(plain, number)).remove)
            if module is None:
                continue
            dense = not hasattr(module, "has_gate")
            make = _dense_forward if dense else _token_forward
            module.__dict__["forward"] = make(module, plain, number)
            stack.callback(module.__dict__.pop, "forward")
            if dense:
                handle = layer.feed_forward.router.register_forward_hook(_router(plain, number))
                stack.callback(handle.remove)
        yield


def _shared(plain: Plain, layer: int):
    def hook(module, args):
        flat = args[0].reshape(-1, args[0].shape[-1])
        if not plain.held:
            plain.shared[layer] = flat[-1].detach().clone()
        put = plain.put.get(layer, (None, None))[1]
        if put is None:
            return None
        return (torch.cat([flat[:-1], put[None]]).view(args[0].shape),)

    return hook


def _router(plain: Plain, layer: int):
    def hook(module, args, output):
        scores = output[0]
        if plain.held and layer in plain.routing:
            kept = plain.routing[layer][0]
            return (torch.cat([scores[:-1], kept[None]]), *output[1:])
        plain.routing[layer] = (scores[-1].detach().clone(), scores[-1])
        return None

    return hook


def attribute_plain(model, tokens, target: int, layer: int, rule, *, held: bool = True) -> Tensor:
    """Attribution of a layer's neurons by a loop over nodes, [neuron], in broca's order."""
    ids = torch.tensor([tokens])
    plain = Plain()

    def probability() -> Tensor:
        with plain_experts(model.layers, plain):
            logits = model.module(input_ids=ids, use_cache=False).logits[0, -1]
        return logits.softmax(-1)[target]

    with torch.no_grad():
        probability()
    plain.held = held
    own = [part.get(layer) for part in (plain.hidden, plain.shared)]
    total = [None if value is None else torch.zeros_like(value) for value in own]
    for node, weight in zip(rule.nodes, rule.weights, strict=True):
        leaves = [None if v is None else (float(node) * v).detach().requires_grad_() for v in own]
        plain.put = {layer: (leaves[0], leaves[1])}
        present = [leaf for leaf in leaves if leaf is not None]
        grads = iter(torch.autograd.grad(probability(), present))
        total = [None if t is None else t + float(weight) * next(grads) for t in total]
    plain.put = {}
    parts = [None if t is None else t * v for t, v in zip(total, own, strict=True)]
    return _in_order(model, plain, layer, *parts)


def _in_order(model, plain: Plain, layer: int, routed, shared) -> Tensor:
    found = []
    module = experts_of(model.layers[layer])
    if routed is not None and module is not None:
        n_experts, width = module.down_proj.shape[0], routed.shape[-1]
        wide = torch.zeros(n_experts, width)
        if hasattr(module, "has_gate"):
            for choice, expert in enumerate(plain.routing[layer][0].tolist()):
                wide[expert] += routed[choice]
        else:
            wide = routed
        found.append(wide.flatten())
    if shared is not None:
        found.append(shared)
    return torch.cat(found)
