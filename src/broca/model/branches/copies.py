"""Every branch a batch row of its own: on the prefix's cache, or a whole prompt."""

from __future__ import annotations

from torch import Tensor
from transformers import DynamicCache

from broca.model.branches.attention import BranchesRefusedError
from broca.model.branches.passes import BasePass
from broca.model.language_model import LanguageModel


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
