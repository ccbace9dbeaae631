"""Primitive 2 for branches: many altered copies of the last token of a prompt, run cheaply.

Attention is causal, so a changed last token changes nothing before it. Copies of it (*branches*)
need the prefix's keys and values only. A base pass records these; then four ways lead to the
logits of the branches, in falling order of speed and rising order of generality:

1. :func:`run_wavefront`: rows join the residual stream behind the layer that alters them, all of
   a prompt's rows beside each other, no row below its layer.
2. :func:`run_packed`: all branches in one sequence behind the prompt, with a mask per layer.
3. :func:`run_rows`: every branch a batch row of its own on the prefix's cache.
4. :func:`run_whole`: every branch a whole prompt; needs nothing of the family.

All run inside the model's own forward: what a family does outside its blocks stays its own code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from broca.model.branch_attention import BranchesRefusedError, Prefixes, branching
from broca.model.language_model import LanguageModel, TokenBatch
from broca.model.resume import passed_over

__all__ = [
    "BasePass",
    "BranchesRefusedError",
    "base_pass",
    "mixture_output",
    "routing_held",
    "run_packed",
    "run_rows",
    "run_wavefront",
    "run_whole",
]


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
            kept["offset"][layer] = _mixture(model, layer, kept["entering"][layer], empty)


def mixture_output(model: LanguageModel, base: BasePass, layer: int, hidden: Tensor) -> Tensor:
    """What a layer's experts put out at the last token, [prompt, d_model], for hidden values
    [prompt, neuron]: routing and all else as they were.

    Raises:
        BranchesRefusedError: If they cannot be run alone.
    """
    entering = base.entering[layer]
    if entering is None or model.block(layer).mlp is None:
        raise BranchesRefusedError("the experts cannot be run by themselves")
    return _mixture(model, layer, entering, hidden)


def _mixture(model: LanguageModel, layer: int, entering: Tensor, hidden: Tensor) -> Tensor:
    block = model.block(layer)
    assert block.mlp is not None
    model.rows = len(entering)
    with model.touch("hidden", layer, lambda _: hidden.unsqueeze(1)):
        output = block.mlp(entering.unsqueeze(1))
    return _rows(output).reshape(len(entering), -1)


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
        kept["masks"][layer] = _arguments(module, args, kwargs).get("attention_mask")

    def after(module: nn.Module, args: tuple, output: Any) -> None:
        rows = _rows(output)
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


def _rows(output: Any) -> Tensor:
    """The rows that a block hands on: itself, or the first of a tuple or list."""
    return output[0] if isinstance(output, (tuple, list)) else output


def _arguments(module: nn.Module, args: tuple, kwargs: dict) -> dict[str, Any]:
    """The arguments of a block by name, however the family hands them over."""
    names = [n for n in inspect.signature(type(module).forward).parameters if n != "self"]
    return {**dict(zip(names, args, strict=False)), **kwargs}


# ---- 1. wavefront


def run_wavefront(
    model: LanguageModel, base: BasePass, layers: range, rows_behind: Callable[[int], Tensor]
) -> Tensor:
    """Logits of branches that join the residual stream behind given layers.

    Args:
        model: The model.
        base: The base pass of the prompts.
        layers: The layers behind which rows join.
        rows_behind: Gives the rows that join behind a layer, [prompt, row, d_model].

    Returns:
        float32 [prompt, row, vocab], rows in the order of the layers.

    Raises:
        BranchesRefusedError: If the family's attention cannot be driven this way.
    """
    prefixes = _prefixes(model, base)
    first = layers.start

    def before(layer: int):
        def hook(module: nn.Module, args: tuple) -> None:
            prefixes.layer = layer

        return hook

    def after(layer: int):
        def hook(module: nn.Module, args: tuple, output: Any) -> Any:
            rows = _rows(output)
            new = rows_behind(layer)
            rows = torch.cat([rows.to(new.device), new], dim=1)
            return type(output)([rows, *output[1:]]) if isinstance(output, (tuple, list)) else rows

        return hook

    handles = []
    try:
        for number in range(first + 1, model.n_layers):
            handles.append(model.layers[number].register_forward_pre_hook(before(number)))
            if number in layers:
                handles.append(model.layers[number].register_forward_hook(after(number)))
        entering = rows_behind(first)
        with (
            branching(model.module, prefixes),
            passed_over(model.layers, first + 1, entering),
        ):
            logits = _last_token_forward(model, base)
    finally:
        for handle in handles:
            handle.remove()
    if prefixes.served != set(range(first + 1, model.n_layers)):
        raise BranchesRefusedError("not every layer asks for its attention by name")
    return logits.reshape(len(base), -1, logits.shape[-1]).float()


def _last_token_forward(model: LanguageModel, base: BasePass) -> Tensor:
    return model.forward(
        input_ids=base.batch.ids[:, -1:],
        attention_mask=base.batch.attention_mask[:, -1:],
        position_ids=base.batch.position_ids[:, -1:],
        use_cache=False,
        logits_to_keep=0,
    )


def _prefixes(model: LanguageModel, base: BasePass) -> Prefixes:
    """Everything before the last token, with the mask row that the last token saw.

    Raises:
        BranchesRefusedError: If a layer keeps no keys and values of all tokens.
    """
    if any(key is None for key in base.keys):
        raise BranchesRefusedError("not every layer keeps the keys and values of all tokens")
    flash = "flash" in str(model.config._attn_implementation)
    made: dict[int, Tensor | None] = {}
    masks: list[Tensor | None] = []
    for layer, mask in enumerate(base.masks):
        if flash:
            masks.append(_flash_mask(model, base, layer))
            continue
        if id(mask) not in made:
            made[id(mask)] = None if mask is None else _last_row(mask, base.logits.dtype)
        masks.append(made[id(mask)])
    pairs = [
        _expanded(model, layer, key[:, :, :-1], value[:, :, :-1])
        for layer, (key, value) in enumerate(zip(base.keys, base.values, strict=True))
        if key is not None and value is not None
    ]
    keys, values = zip(*pairs, strict=True)
    return Prefixes(list(keys), list(values), masks)


def _expanded(
    model: LanguageModel, layer: int, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor]:
    """Keys and values as the attention reads them: some families keep them compressed."""
    expand = getattr(model.block(layer).attention, "expand_kv", None)
    return (key, value) if expand is None else expand(key, value)


def _last_row(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if not torch.is_tensor(mask) or mask.dim() != 4 or mask.shape[1] != 1:
        raise BranchesRefusedError("the attention mask is not [prompt, 1, token, token]")
    return _additive(mask[:, :, -1:, :-1], dtype)


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
        ~mask, torch.finfo(dtype).min
    )


def _flash_mask(model: LanguageModel, base: BasePass, layer: int) -> Tensor:
    """Flash attention gets a padding mask and applies the window itself."""
    seen = base.batch.attention_mask[:, None, None, :-1].bool()
    window = getattr(model.block(layer).attention, "sliding_window", None)
    if window:
        positions = base.batch.position_ids
        near = positions[:, :-1] > positions[:, -1:] - window
        seen = seen & near[:, None, None]
    keys = base.keys[layer]
    device = base.logits.device if keys is None else keys.device
    return _additive(seen, base.logits.dtype).to(device)


# ---- 2. packed


def run_packed(model: LanguageModel, base: BasePass, n_branches: int) -> Tensor:
    """Logits of copies of the last token, all in one sequence behind the prompt.

    Returns:
        float32 [prompt, branch, vocab].

    Raises:
        BranchesRefusedError: If the blocks are not given a mask that could be replaced.
    """
    batch = base.batch
    copies = [t[:, -1:].expand(-1, n_branches) for t in (batch.ids, batch.position_ids)]
    masks: dict[int, Tensor] = {}
    handles = []
    try:
        for layer, mask in zip(model.layers, base.masks, strict=True):
            if id(mask) not in masks:
                masks[id(mask)] = _packed_mask(base, mask, n_branches, model.dtype)
            handles.append(
                layer.register_forward_pre_hook(_mask_hook(masks[id(mask)]), with_kwargs=True)
            )
        logits = model.forward(
            input_ids=torch.cat([batch.ids, copies[0]], 1),
            attention_mask=torch.cat([batch.attention_mask, torch.ones_like(copies[0])], 1),
            position_ids=torch.cat([batch.position_ids, copies[1]], 1),
            use_cache=False,
            logits_to_keep=n_branches,
        )
    finally:
        for handle in handles:
            handle.remove()
    return logits.float()


def _packed_mask(
    base: BasePass, mask: Tensor | None, n_branches: int, dtype: torch.dtype
) -> Tensor:
    """[prompt, 1, token + branch, token + branch]: a branch sees what the last token saw."""
    length = base.batch.ids.shape[1]
    if mask is None:
        allowed = torch.ones(length, length, dtype=torch.bool, device=base.logits.device).tril()
        known = _additive(allowed[None, None], dtype)
    elif torch.is_tensor(mask) and mask.dim() == 4:
        known = _additive(mask, dtype)
    else:
        raise BranchesRefusedError("the attention mask is not [prompt, 1, token, token]")
    whole = known.new_full(
        (known.shape[0], 1, length + n_branches, length + n_branches), torch.finfo(dtype).min
    )
    whole[:, :, :length, :length] = known
    whole[:, :, length:, : length - 1] = known[:, :, -1:, :-1]
    whole[:, :, length:, length:].diagonal(dim1=-2, dim2=-1).zero_()
    return whole


def _mask_hook(mask: Tensor):
    def hook(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        known = _arguments(module, args, kwargs)
        if "attention_mask" not in known:
            raise BranchesRefusedError("the blocks take no attention mask")
        known["attention_mask"] = mask
        hidden = known.pop(next(iter(known)))
        return (hidden,), known

    return hook


# ---- 3. rows


def run_rows(model: LanguageModel, base: BasePass, n_branches: int) -> Tensor:
    """Logits of copies of the last token, each a batch row on the prefix's cache.

    Returns:
        float32 [prompt, branch, vocab]; the batch rows go prompt by prompt.
    """
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(zip(base.keys, base.values, strict=True)):
        if keys is None or values is None:
            raise BranchesRefusedError("not every layer keeps the keys and values of all tokens")
        if keys.shape[2] > 1:
            cache.update(
                keys[:, :, :-1].repeat_interleave(n_branches, 0),
                values[:, :, :-1].repeat_interleave(n_branches, 0),
                layer,
            )
    batch = base.batch
    logits = model.forward(
        input_ids=batch.ids[:, -1:].repeat_interleave(n_branches, 0),
        attention_mask=batch.attention_mask.repeat_interleave(n_branches, 0),
        position_ids=batch.position_ids[:, -1:].repeat_interleave(n_branches, 0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return logits[:, -1].unflatten(0, (len(base), n_branches)).float()


# ---- 4. whole prompts


def run_whole(model: LanguageModel, base: BasePass, n_branches: int) -> Tensor:
    """Logits of copies of whole prompts: for families of which nothing can be kept.

    Returns:
        float32 [prompt, branch, vocab]; the batch rows go prompt by prompt.
    """
    batch = base.batch
    logits = model.forward(
        input_ids=batch.ids.repeat_interleave(n_branches, 0),
        attention_mask=batch.attention_mask.repeat_interleave(n_branches, 0),
        position_ids=batch.position_ids.repeat_interleave(n_branches, 0),
        use_cache=False,
        logits_to_keep=1,
    )
    return logits[:, -1].unflatten(0, (len(base), n_branches)).float()


# ---- experts


@contextmanager
def routing_held(model: LanguageModel, base: BasePass, n_last: int) -> Iterator[None]:
    """Send last tokens and their branches to the experts of the base pass, with its weights.

    Args:
        model: The model.
        base: The base pass of the prompts.
        n_last: How many tokens at each sequence's end are branches of the last one; where a
            prompt has several batch rows, 1.
    """

    def hold(kept: tuple[Tensor, Tensor]):
        def function(routing: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return tuple(  # type: ignore[return-value]
                _with_last(now, then, model.rows, n_last)
                for now, then in zip(routing, kept, strict=True)
            )

        return function

    with ExitStack() as stack:
        for block, kept in zip(model.blocks, base.routing, strict=True):
            if block.experts is not None and kept is not None:
                stack.enter_context(block.experts.rerouted(hold(kept)))
        yield


def _with_last(now: Tensor, then: Tensor, rows: int, n_last: int) -> Tensor:
    """Choices [token, choice] with those of the last tokens as they were, [prompt, choice]."""
    by_row = now.unflatten(0, (rows, -1))
    n_last = min(n_last, by_row.shape[1])
    last = then.repeat_interleave(rows // len(then), 0).unsqueeze(1).expand(-1, n_last, -1)
    return torch.cat([by_row[:, :-n_last], last.to(now)], 1).flatten(0, 1)
