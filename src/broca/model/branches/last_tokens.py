"""Many copies of a prompt's last token beside each other: each sees the prefix and itself.

For whatever changes the last token alone. The prefix is computed once and copied nowhere; a hook
at a site sees the copies as [prompt, copy, neuron]. Families whose attention cannot be driven
this way are refused, and a caller takes whole prompts instead.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from broca.model.branches.attention import BranchesRefusedError, branching
from broca.model.branches.passes import BasePass
from broca.model.branches.prefixes import prefixes_of
from broca.model.finite import require_finite
from broca.model.language_model import LanguageModel


def run_last_tokens(model: LanguageModel, base: BasePass, n_copies: int) -> Tensor:
    """Logits of copies of the last token, by whatever hooks are active.

    Args:
        model: The model.
        base: The base pass of the prompts.
        n_copies: Copies per prompt.

    Returns:
        float32 [prompt, copy, vocab].

    Raises:
        BranchesRefusedError: If the family's attention cannot be driven this way.
        ModelError: If logits are not finite.
    """
    prefixes = prefixes_of(model, base)

    def before(layer: int):
        def hook(module: nn.Module, args: tuple) -> None:
            prefixes.layer = layer

        return hook

    handles = [
        module.register_forward_pre_hook(before(layer)) for layer, module in enumerate(model.layers)
    ]
    ids = base.batch.ids[:, -1:].expand(-1, n_copies)
    try:
        with branching(model.module, prefixes):
            logits = model.forward(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                position_ids=base.batch.position_ids[:, -1:].expand(-1, n_copies),
                use_cache=False,
                logits_to_keep=0,
            )
    finally:
        for handle in handles:
            handle.remove()
    if prefixes.served != set(range(model.n_layers)):
        raise BranchesRefusedError("not every layer asks for its attention by name")
    return require_finite(model, logits.float())
