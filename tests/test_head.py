"""The head of a pass that keeps the last tokens' logits is given one matrix."""

from __future__ import annotations

import pytest
import torch

from tiny import TEXTS, tiny_model


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "bloom"])
@pytest.mark.parametrize("kept", [1, 2, 3])
def test_logits_are_those_of_every_prompt_alone(family: str, kept: int):
    model = tiny_model(family)
    tokens = model.encode(list(TEXTS))
    seen = []
    head = model.module.get_output_embeddings()
    handle = head.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    logits = model.logits(model.pad(tokens), logits_to_keep=kept)
    handle.remove()
    assert [given.is_contiguous() for given in seen] == [True]
    assert not head._forward_pre_hooks
    for row, ids in enumerate(tokens):
        n = min(kept, len(ids))
        with torch.no_grad():
            alone = model.module(torch.tensor([ids])).logits[0, -n:]
        torch.testing.assert_close(logits[row, -n:], alone, atol=1e-4, rtol=0)
