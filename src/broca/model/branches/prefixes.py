"""What branches attend to: the prefix's keys and values, and the mask the last token saw."""

from __future__ import annotations

import torch
from torch import Tensor

from broca.model.branches.attention import BranchesRefusedError, Prefixes
from broca.model.branches.passes import BasePass
from broca.model.language_model import LanguageModel


def prefixes_of(model: LanguageModel, base: BasePass) -> Prefixes:
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
    return additive(mask[:, :, -1:, :-1], dtype)


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to be added to scores: 0 where a token is seen, the lowest number where not."""
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
    return additive(seen, base.logits.dtype).to(device)
