"""All branches in one sequence behind the prompt, with a mask per layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from broca.model.branches.attention import BranchesRefusedError
from broca.model.branches.blocks import arguments_of
from broca.model.branches.passes import BasePass
from broca.model.branches.prefixes import additive
from broca.model.language_model import LanguageModel


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
        known = additive(allowed[None, None], dtype)
    elif torch.is_tensor(mask) and mask.dim() == 4:
        known = additive(mask, dtype)
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
        known = arguments_of(module, args, kwargs)
        if "attention_mask" not in known:
            raise BranchesRefusedError("the blocks take no attention mask")
        known["attention_mask"] = mask
        hidden = known.pop(next(iter(known)))
        return (hidden,), known

    return hook
