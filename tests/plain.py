"""Slow, obvious twins of the fast paths: one prompt at a time, plain hooks, plain generate."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import torch

from broca.model import LanguageModel
from broca.neurons import NeuronSet

PATHS = {
    "Llama": ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "self_attn"),
    "Mistral": ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "self_attn"),
    "Qwen2": ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "self_attn"),
    "Qwen3": ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "self_attn"),
    "Gemma2": ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "self_attn"),
    "Olmo2": ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "self_attn"),
}


@contextmanager
def plain_factor(model: LanguageModel, neurons: NeuronSet, factor: float):
    """Scale neurons of a Llama-like module by hooks that know nothing of broca's tables."""
    gate, up, down, attention = PATHS[type(model.module).__name__.removesuffix("ForCausalLM")]
    by_place: dict[tuple[str, int], list[int]] = {}
    for neuron in neurons:
        by_place.setdefault((neuron.site, neuron.layer), []).append(neuron.index)
    with ExitStack() as stack:
        for (site, layer), indices in by_place.items():
            block = model.module.model.layers[layer]
            path = {"gate": gate, "up": up, "hidden": down, "down": down}.get(
                site, f"{attention}.{site}_proj"
            )
            module = block.get_submodule(path)

            def after(module, args, output, indices=indices):
                output = output.clone()
                output[..., indices] *= factor
                return output

            def before(module, args, indices=indices):
                tensor = args[0].clone()
                tensor[..., indices] *= factor
                return (tensor,)

            if site == "hidden":
                handle = module.register_forward_pre_hook(before)
            else:
                handle = module.register_forward_hook(after)
            stack.callback(handle.remove)
        yield


@torch.no_grad()
def plain_answer(model: LanguageModel, ids: list[int]) -> list[int]:
    """Two greedy tokens through the model's own generate."""
    tokens = torch.tensor([ids])
    out = model.module.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=2,
        min_new_tokens=2,
        do_sample=False,
        pad_token_id=0,
    )
    return out[0, len(ids) :].tolist()


@torch.no_grad()
def plain_log_p(model: LanguageModel, ids: list[int], answer: list[int]) -> float:
    """Log probability of the answer's tokens, one forward pass per token."""
    total = 0.0
    for n, token in enumerate(answer):
        logits = model.module(torch.tensor([ids + answer[:n]])).logits[0, -1]
        total += float(logits.double().log_softmax(-1)[token])
    return total
