"""The slow, obvious attribution: one layer at a time, all nodes in one batch of full prompts.

Plain hooks on the down projection of a transformers model; nothing of ``broca.attributions`` is
used, so that it can serve as its oracle and as the baseline of the benchmark.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def hooks(*handles):
    """Remove hooks at the end."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def frozen_norm(norm: nn.Module, inputs: Tensor) -> Tensor:
    """Weight over root mean square: an RMS norm at inputs [d_model] with its scale held there."""
    weight = 1 + norm.weight if "Gemma" in type(norm).__name__ else norm.weight
    eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    return weight / (inputs.square().mean() + eps).sqrt()


def last_values(model, ids: Tensor, layer: int, site: str) -> tuple[Tensor, Tensor]:
    """Values of the site at the last position, [neuron], and the down projection's output."""
    block, box = model.block(layer), {}
    source = block.down if site == "hidden" else block.source("up")

    def keep(module, args, output):
        value = args[0] if site == "hidden" else output
        box["values"] = value.reshape(-1, value.shape[-1])[-1].detach().clone()

    def keep_down(module, args, output):
        box["down"] = output.reshape(-1, output.shape[-1])[-1].detach().clone()

    with (
        torch.no_grad(),
        hooks(source.register_forward_hook(keep), block.down.register_forward_hook(keep_down)),
    ):
        model.module(ids, use_cache=False, logits_to_keep=1)
    return box["values"], box["down"]


def scaled_probability(
    model, tokens, target, layer, values: Tensor, *, site="hidden", path="frozen-norm"
) -> Tensor:
    """P of the target with the last position's values replaced by each row of [step, neuron]."""
    block = model.block(layer)
    ids = torch.tensor([tokens])
    _, down = last_values(model, ids, layer, site)
    steps, n_tokens = len(values), len(tokens)

    def replace(tensor: Tensor) -> Tensor:
        rows = tensor.reshape(steps, n_tokens, -1).clone()
        rows[:, -1] = values
        return rows.reshape(tensor.shape)

    def freeze(module, args, output):
        gain = frozen_norm(module, down)
        moved = output.clone()
        moved[:, -1] = module.forward(down) + gain * (args[0][:, -1] - down)
        return moved

    if site == "hidden":
        first = block.down.register_forward_pre_hook(lambda m, args: (replace(args[0]),))
    else:
        first = block.source("up").register_forward_hook(lambda m, args, out: replace(out))
    handles = [first]
    if block.post_mlp_norm is not None and path == "frozen-norm":
        handles.append(block.post_mlp_norm.register_forward_hook(freeze))
    with hooks(*handles):
        logits = model.module(ids.expand(steps, -1), use_cache=False, logits_to_keep=1).logits[
            :, -1
        ]
    return logits.float().softmax(-1)[:, target]


def attribute_layer(
    model, tokens, target, layer, nodes, weights, *, site="hidden", path="frozen-norm"
) -> Tensor:
    """NA of one layer, [neuron]."""
    values, _ = last_values(model, torch.tensor([tokens]), layer, site)
    nodes = torch.as_tensor(nodes, dtype=torch.float32)
    weights = torch.as_tensor(weights, dtype=torch.float32)
    scaled = (nodes[:, None] * values).requires_grad_()
    p = scaled_probability(model, tokens, target, layer, scaled, site=site, path=path)
    (gradient,) = torch.autograd.grad(p.sum(), scaled)
    return weights @ gradient * values


def attribute(model, tokens, target, nodes, weights, **options) -> Tensor:
    """NA of all layers, [layer, neuron]."""
    layers = range(model.n_layers)
    return torch.stack(
        [attribute_layer(model, tokens, target, l, nodes, weights, **options) for l in layers]
    )
