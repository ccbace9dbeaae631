"""The slow, obvious exact effect: one hook, one whole forward pass per neuron.

Plain hooks on the down projection of a transformers model; nothing of ``broca.effects`` is used,
so that it can serve as its oracle and as the baseline of the benchmark.
"""

from __future__ import annotations

import torch
from torch import Tensor

from plain_loop import hooks


@torch.no_grad()
def log_p(model, ids: Tensor, target: int) -> Tensor:
    """Log P of a token after each row of ids, float64 [row]."""
    logits = model.module(ids, use_cache=False, logits_to_keep=1).logits[:, -1]
    return logits.double().log_softmax(-1)[:, target]


def effects_of(model, tokens, target, layer, neurons, value=0.0, batch=64) -> Tensor:
    """Change of log P with each of some neurons of a layer replaced at the last position.

    Args:
        value: What is put in place: one number for all neurons, or one per neuron.
        batch: Neurons replaced in one forward pass, a row of whole prompts each.
    """
    ids = torch.tensor([tokens])
    before = log_p(model, ids, target)
    values = torch.as_tensor(value).expand(len(neurons))
    found = []
    for start in range(0, len(neurons), batch):
        part = torch.as_tensor(neurons[start : start + batch])
        put = values[start : start + batch]

        def replace(module, args, part=part, put=put):
            rows = args[0].reshape(len(part), len(tokens), -1).clone()
            rows[torch.arange(len(part)), -1, part] = put.to(rows)
            return (rows.reshape(args[0].shape),)

        with hooks(model.block(layer).down.register_forward_pre_hook(replace)):
            found.append(log_p(model, ids.expand(len(part), -1), target) - before)
    return torch.cat(found)


def all_effects(model, tokens, target, value=None, batch=64) -> Tensor:
    """The same of all neurons, [layer, neuron]."""
    width = model.widths["hidden"]
    put = torch.zeros(model.n_layers, width) if value is None else value
    return torch.stack(
        [
            effects_of(model, tokens, target, layer, range(width), put[layer], batch)
            for layer in range(model.n_layers)
        ]
    )
