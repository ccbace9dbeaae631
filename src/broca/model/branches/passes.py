"""The base pass: what one ordinary forward pass over prompts leaves for their branches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from broca.model.branches.blocks import arguments_of, rows_of, run_mixture
from broca.model.language_model import LanguageModel
from broca.model.reading import TokenBatch

_KEPT = (
    "masks",
    "site_values",
    "hidden",
    "down",
    "offset",
    "entering",
    "routing",
    "normed",
    "output",
)


@dataclass(frozen=True)
class BasePass:
    """What one ordinary forward pass over a batch left behind. Lists go over layers.

    Attributes:
        batch: The tokens.
        keys: [prompt, key-value head, token, dim], rotary angles applied; None where a layer
            keeps none.
        values: The same for the values.
        masks: The mask the block was given: [prompt, 1, token, token], [prompt, token] or None.
        site_values: Values of the site at the last token, [prompt, neuron].
        hidden: Input of the down projection at the last token, [prompt, d_ff]; [prompt, 0] in a
            layer without neurons.
        down: Output of the down projection there, [prompt, d_model].
        offset: The part of ``down`` that no neuron writes, [prompt, d_model], None for none.
        entering: What enters the module of MLP and experts there; None in a layer without experts.
        routing: Experts chosen there and their weights, [prompt, choice] each; None without.
        normed: Output of the norm behind it, None where there is none.
        output: Output of the block there, [prompt, d_model].
        logits: At the last token, float32 [prompt, vocab].
    """

    batch: TokenBatch
    keys: list[Tensor | None]
    values: list[Tensor | None]
    masks: list[Tensor | None]
    site_values: list[Tensor]
    hidden: list[Tensor]
    down: list[Tensor]
    offset: list[Tensor | None]
    entering: list[Tensor | None]
    routing: list[tuple[Tensor, Tensor] | None]
    normed: list[Tensor | None]
    output: list[Tensor]
    logits: Tensor

    def __len__(self) -> int:
        return len(self.batch)

    def select(self, prompts: Tensor) -> BasePass:
        """The same of some prompts of the batch, by their indices."""
        if len(prompts) == len(self) and bool((prompts.cpu() == torch.arange(len(self))).all()):
            return self

        def pick(tensor: Any) -> Any:
            if isinstance(tensor, tuple):
                return tuple(pick(part) for part in tensor)
            if tensor is None or len(tensor) == 1 < len(self):
                return tensor
            return tensor[prompts.to(tensor.device)]

        batch = TokenBatch(*(pick(t) for t in vars(self.batch).values()))  # type: ignore[arg-type]
        lists = {
            name: [pick(tensor) for tensor in listed]
            for name, listed in vars(self).items()
            if isinstance(listed, list)
        }
        return BasePass(batch=batch, logits=pick(self.logits), **lists)  # type: ignore[arg-type]


def base_pass(model: LanguageModel, batch: TokenBatch, site: str = "hidden") -> BasePass:
    """Run a batch once and keep what its branches need."""
    kept: dict[str, list[Any]] = {name: [None] * model.n_layers for name in _KEPT}
    with ExitStack() as stack:
        for layer in range(model.n_layers):
            stack.enter_context(_kept(model, layer, site, kept, len(batch)))
        result = model.run(batch, use_cache=model.drive.caches)
    width = batch.ids.shape[1]
    pairs = [
        pair if pair is not None and pair[0].shape[2] == width else (None, None)
        for pair in result.keys_values or [None] * model.n_layers
    ]
    for layer in range(model.n_layers):
        _complete(model, layer, kept, result.logits)
    keys, values = zip(*pairs, strict=True)
    return BasePass(batch, list(keys), list(values), logits=result.logits[:, -1], **kept)


def _complete(model: LanguageModel, layer: int, kept: dict[str, list[Any]], like: Tensor) -> None:
    """Empty tensors for a layer without neurons; what is no neuron's in the others."""
    block = model.block(layer)
    if kept["hidden"][layer] is None:
        kept["hidden"][layer] = like.new_zeros(len(like), 0, dtype=model.dtype)
    if kept["site_values"][layer] is None:
        kept["site_values"][layer] = kept["hidden"][layer][:, :0]
    if kept["down"][layer] is None:
        kept["down"][layer] = torch.zeros_like(kept["output"][layer])
    if block.experts is None:
        bias = getattr(block.down, "bias", None)
        kept["offset"][layer] = None if bias is None else bias.expand_as(kept["down"][layer])
    elif block.mlp is not None and kept["entering"][layer] is not None:
        empty = torch.zeros_like(kept["hidden"][layer])
        with torch.no_grad():
            kept["offset"][layer] = run_mixture(model, layer, kept["entering"][layer], empty)


@contextmanager
def _kept(
    model: LanguageModel, layer: int, site: str, kept: dict[str, list], n_prompts: int
) -> Iterator[None]:
    """Keep what one block does at the last token."""
    block = model.block(layer)

    def keep(name: str) -> Callable[[Tensor], None]:
        def function(tensor: Tensor) -> None:
            kept[name][layer] = tensor[:, -1].detach().clone()  # families change it in place

        return function

    def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
        kept["masks"][layer] = arguments_of(module, args, kwargs).get("attention_mask")

    def after(module: nn.Module, args: tuple, output: Any) -> None:
        rows = rows_of(output)
        if len(rows) != n_prompts:  # several streams in front (Gemma 3n); the first is read
            rows = rows[0]
        kept["output"][layer] = rows[:, -1].detach().clone()

    def after_norm(module: nn.Module, args: tuple, output: Tensor) -> None:
        kept["normed"][layer] = output[:, -1].detach().clone()

    def entering(module: nn.Module, args: tuple) -> None:
        if args and torch.is_tensor(args[0]) and args[0].dim() == 3 and len(args) == 1:
            kept["entering"][layer] = args[0][:, -1].detach().clone()

    def routed(routing: tuple[Tensor, Tensor]) -> None:
        kept["routing"][layer] = tuple(
            part.detach().unflatten(0, (model.rows, -1))[:, -1].clone() for part in routing
        )

    with ExitStack() as stack:
        for touched, name in ((site, "site_values"), ("hidden", "hidden"), ("down", "down")):
            if touched in block.widths():
                stack.enter_context(model.watch(touched, layer, keep(name)))
        if block.experts is not None:
            stack.enter_context(block.experts.rerouted(routed))
            if block.mlp is not None:
                stack.callback(block.mlp.register_forward_pre_hook(entering).remove)
        handles = [
            block.module.register_forward_pre_hook(before, with_kwargs=True),
            block.module.register_forward_hook(after),
        ]
        if block.post_mlp_norm is not None:
            handles.append(block.post_mlp_norm.register_forward_hook(after_norm))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
