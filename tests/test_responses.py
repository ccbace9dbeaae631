"""Pooled responses equal a plain loop over single prompts; folders are reused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from broca.errors import RunError, ScoreError
from broca.model.check import recorded
from broca.prompts import Prompt
from broca.responses import POOLINGS, record_responses
from tiny import TEXTS, tiny_model, tiny_tokenizer

PROMPTS = [
    Prompt(
        id=f"p{n}",
        text=text,
        answers=("x",),
        subject_span=(0, len(text.split()[0])),
        asked_span=(len(text.split()[0]), len(text)) if n % 2 and " " in text else None,
    )
    for n, text in enumerate(TEXTS)
]


def plain_response(model, prompt, site, layer, pooling):
    encoding = tiny_tokenizer()(prompt.text, return_offsets_mapping=True)
    ids = encoding.input_ids
    with recorded(model, (site,)) as seen:
        model.module(torch.tensor([ids]))
    values = seen[site, layer][0].double()
    if pooling == "mean":
        return values.mean(0)
    if pooling == "mean-no-bos":
        return values[1:].mean(0)
    if pooling == "last":
        return values[-1]
    if pooling == "asked":
        start, end = prompt.asked_span or (0, len(prompt.text))
        rows = [
            values[i]
            for i, (a, b) in enumerate(encoding.offset_mapping)
            if set(range(a, b)) & set(range(start, end))
        ]
        return sum(rows) / len(rows)
    end = prompt.subject_span[1]
    token = next(i for i, (a, b) in enumerate(encoding.offset_mapping) if a < end <= b)
    return values[token]


@pytest.mark.parametrize("family", ["llama", "opt", "gpt_neox"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_responses_equal_a_plain_loop(family, pooling, tmp_path):
    model = tiny_model(family)
    sites = ("up", "down", "q")
    responses = record_responses(
        model, PROMPTS, sites, pooling=pooling, folder=tmp_path, batch_size=3
    )
    assert len(responses.index) == sum(model.widths[s] for s in sites) * model.n_layers
    for site, layer, _ in responses.index.blocks():
        block = responses.block(site, layer)
        assert block.dtype == np.float32
        for row, prompt in enumerate(PROMPTS):
            with torch.no_grad():
                expected = plain_response(model, prompt, site, layer, pooling)
            np.testing.assert_allclose(block[row], expected, atol=2e-5, rtol=1e-4)


def test_folders_are_reused_and_unfinished_ones_are_not(tmp_path):
    model = tiny_model("llama")
    first = record_responses(model, PROMPTS, ("up",), folder=tmp_path)
    marked = first.block("up", 0).copy()
    marked[0, 0] = 123.0
    np.save(first.folder / "up.0.npy", marked)
    again = record_responses(model, PROMPTS, ("up",), folder=tmp_path)
    assert again.block("up", 0)[0, 0] == 123.0
    (first.folder / "finished.json").unlink()
    fresh = record_responses(model, PROMPTS, ("up",), folder=tmp_path)
    assert fresh.block("up", 0)[0, 0] != 123.0
    other = record_responses(model, PROMPTS[:2], ("up",), folder=tmp_path)
    assert other.key != first.key


def test_subset_keeps_the_order_given():
    responses = record_responses(tiny_model("llama"), PROMPTS, ("up",))
    part = responses.subset([2, 0]).subset([1])
    assert part.prompt_ids == ("p0",)
    np.testing.assert_array_equal(part.block("up", 1)[0], responses.block("up", 1)[0])


def test_mistakes(tmp_path):
    model = tiny_model("llama")
    with pytest.raises(ScoreError, match="Unknown pooling"):
        record_responses(model, PROMPTS, pooling="max")
    with pytest.raises(ScoreError, match="no prompts"):
        record_responses(model, [])
    with pytest.raises(ScoreError, match="does not name its subject"):
        record_responses(model, [Prompt("p", "a cat", ("x",))], pooling="subject-last")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .* responses"):
        record_responses(model, PROMPTS, folder=tmp_path / "file")
