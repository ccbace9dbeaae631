"""Direct log-prob increase: what a neuron's value vector does to log P if read out at once.

    score_i = log P(y | x + v_i w_i) - log P(y | x)

x is the residual stream in front of the MLP's contribution; both sides go straight through the
final norm and the unembedding. What layers above make of the neuron is not seen.

Setting ``prefilter``: a share of each layer's neurons, those of the largest first-order estimate
|d log P / d x . v_i w_i|, is read out; the others keep the estimate.

Source: arXiv 2312.12141, section 3 (value neurons). Where attention and MLP run in parallel, x
holds the attention's output *(ours)*.
Cost: one forward pass per prompt and F L rows through the unembedding.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from broca.attributions.tails import Tail, down_bias
from broca.effects.aims import Aim
from broca.effects.prefilter import check_share
from broca.effects.reading import Reader, make_reader
from broca.errors import EffectError
from broca.locators.locator import SITE, Question
from broca.model import LanguageModel
from broca.model.branches import BasePass, base_pass
from broca.progress import pulse

_ROWS = 2048


@torch.no_grad()
def direct_increase(question: Question) -> np.ndarray:
    """Increase of log P, summed over the answer's tokens, [prompt, layer, neuron].

    Raises:
        EffectError: If the way from the last block to the logits is not known, or a layer writes
            more than its value vectors times its values (experts, weighed by their router).
    """
    model, reader = question.model, make_reader(question.model)
    if reader.unembedding is None:
        raise EffectError("The unembedding of this model cannot be read", model.name)
    widths = model.identity.layer_widths(SITE)
    for layer in (n for n, width in enumerate(widths) if width):
        block = model.block(layer)
        if block.experts is not None or not block.linear:
            raise EffectError(
                "The direct increase of log P is not defined for a layer that writes more than its "
                "value vectors",
                f"{model.name}, layer {layer}",
                "Use another locator.",
            )
    share = question.settings.get("prefilter")
    check_share(share, None)
    found = np.zeros((len(question.flat), len(widths), max(widths)), np.float32)
    for number, aim in enumerate(question.flat):
        base = base_pass(model, model.pad([aim.tokens]))
        for layer, width in enumerate(widths):
            if width:
                found[number, layer, :width] = _layer(model, base, aim, reader, layer, share)
            pulse(number * len(widths) + layer + 1, len(found) * len(widths))
    return question.summed(found)


def _layer(
    model: LanguageModel, base: BasePass, aim: Aim, reader: Reader, layer: int, share: float | None
) -> np.ndarray:
    block = model.block(layer)
    tail, bias = Tail(block, None), down_bias(block)
    product = (base.down[layer] if bias is None else base.down[layer] - bias).unsqueeze(1)
    before = base.output[layer].unsqueeze(1) - tail(product)
    written = tail_share(
        tail, product, base.hidden[layer][0, :, None] * model.value_weight(layer).T
    )
    nothing = _read(reader, aim, base, before[0])
    chosen, found = torch.arange(len(written)), np.empty(len(written), np.float32)
    if share is not None:
        first_order = written @ _gradient(reader, aim, before[0])[0]
        found[:] = first_order.float().cpu().numpy()
        chosen = first_order.abs().topk(max(1, round(share * len(written)))).indices.cpu()
    for rows in chosen.split(_ROWS):
        read = _read(reader, aim, base, before[0] + written[rows.to(written.device)])
        found[rows.numpy()] = (read - nothing).float().cpu().numpy()
    return found


def _gradient(reader: Reader, aim: Aim, row: Tensor) -> Tensor:
    """Gradient of log P at a row [1, d_model] of the residual stream."""
    assert reader.unembedding is not None
    with torch.enable_grad():
        leaf = row.detach().requires_grad_()
        log_p = aim.read(reader.unembedding.logits(leaf))
        (found,) = torch.autograd.grad(log_p.sum(), leaf)
    return found


def tail_share(tail: Tail, product: Tensor, written: Tensor) -> Tensor:
    """What neurons' parts of a product [neuron, d_model] are in the residual stream.

    Behind a post-norm: the product's contribution minus that of the product without the part.
    """
    if tail.linear:
        return tail(written)
    return (tail(product) - tail(product - written))[0]


def _read(reader: Reader, aim: Aim, base: BasePass, rows: Tensor) -> Tensor:
    found = reader.unembedding
    assert found is not None

    def run() -> Tensor:
        return found.head(found.norm(rows) if found.norm is not None else rows)[None]

    return reader.read(run, aim, float(base.logits[0].max()))
