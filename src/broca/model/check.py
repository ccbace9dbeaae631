"""Checks of a model by arithmetic: what its structure promises is what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from broca.errors import ModelError
from broca.model.blocks import value_weight

if TYPE_CHECKING:
    from broca.model.language_model import LanguageModel

_TOLERANCES = {torch.float16: 1e-2, torch.bfloat16: 5e-2}  # of other dtypes: 1e-5
_TEXTS = ("The quick brown fox jumps over the lazy dog", "One two", "A city in the north of")


@dataclass(frozen=True)
class SelfCheck:
    """What was measured of a model.

    Attributes:
        untouched_bit_equal: Logits after hooks were set and removed equal those before, bit by bit.
        padding_error: Largest logit difference between a left-padded batch and single rows, as
            a share of the largest logit.
        resumes: Whether layers can be run from a given one on (primitive 2).
        resume_error: Largest logit difference of doing so, over all layers, as the same share.
        mlp_error: Largest relative error of hidden = act(gate) * up over layers (plain: act(up)).
        special_tokens: What special tokens prompts get, in words.
        tolerance: Share of the largest logit that the dtype lets pass.
    """

    untouched_bit_equal: bool
    padding_error: float
    resumes: bool
    resume_error: float
    mlp_error: float
    special_tokens: str
    tolerance: float = 1e-5

    @property
    def padding_holds(self) -> bool:
        """Whether padded batches equal single rows within the tolerance."""
        return self.padding_error <= self.tolerance


@contextmanager
def recorded(model: LanguageModel, sites: tuple[str, ...]) -> Iterator[dict]:
    """Keep the tensors of some sites of all layers of the next pass."""
    kept: dict[tuple[str, int], Tensor] = {}
    with ExitStack() as stack:
        for site in sites:
            for layer in range(model.n_layers):

                def keep(tensor: Tensor, key: tuple[str, int] = (site, layer)) -> None:
                    kept[key] = tensor.detach()

                stack.enter_context(model.touch(site, layer, keep))
        yield kept


@torch.no_grad()
def verify_sites(model: LanguageModel) -> float:
    """Check that hidden = act(gate) * up and down = W hidden in every layer.

    Returns the largest relative error of the first.

    Raises:
        ModelError: If a layer computes something else than its structure says.
    """
    size = model.module.get_input_embeddings().weight.shape[0]
    ids = [(7 * i + 3) % size for i in range(5)]
    sites = tuple(s for s in ("gate", "up", "hidden", "down") if s in model.widths)
    tuples = [
        layer.register_forward_hook(_note_tuple) for layer in model.layers
    ]  # primitive 2 hands on what the block itself returns
    try:
        with recorded(model, sites) as seen:
            model.logits(model.pad([ids]))
    finally:
        for handle in tuples:
            handle.remove()
    worst = 0.0
    tolerance = 1e-4 if model.dtype == torch.float32 else 5e-2
    for layer in range(model.n_layers):
        worst = max(worst, _verify_layer(model, layer, seen, tolerance))
    return worst


def _note_tuple(module, args, output) -> None:
    module._broca_returns_tuple = isinstance(output, tuple)


def _verify_layer(model: LanguageModel, layer: int, seen: dict, tolerance: float) -> float:
    block = model.block(layer)
    for site in ("up", "hidden", "down"):
        if (site, layer) not in seen:
            raise ModelError(
                f"Site {site} of layer {layer} was never computed",
                model.name,
                "Pass a Layout that names the modules the block really calls.",
            )
    hidden, up = seen["hidden", layer].float(), seen["up", layer].float()
    if block.activation is None:
        raise ModelError(
            f"The activation of layer {layer} was not found, so its sites cannot be verified",
            model.name,
            "Pass a Layout with activation='mlp.act_fn' or where it is.",
        )
    if block.gated:
        expected = block.activation(seen["gate", layer]).float() * up
    else:
        expected = block.activation(seen["up", layer]).float()
    error = _relative(expected, hidden)
    if error > tolerance:
        formula = "act(gate) * up" if block.gated else "act(up)"
        raise ModelError(
            f"hidden is not {formula} in layer {layer} (relative error {error:.2g})",
            model.name,
            "The block computes something else than its structure says; pass a Layout.",
        )
    weight = getattr(block.down, "weight", None)
    if isinstance(weight, Tensor) and weight.is_floating_point():
        product = seen["hidden", layer] @ value_weight(block).T.to(hidden.device)
        bias = getattr(block.down, "bias", None)
        if _relative(product + (0 if bias is None else bias), seen["down", layer]) > tolerance:
            raise ModelError(f"down is not W hidden in layer {layer}", model.name)
    return error


def _relative(a: Tensor, b: Tensor) -> float:
    scale = b.float().abs().max().clamp(min=1e-12)
    return float((a.float() - b.float()).abs().max() / scale)


@torch.no_grad()
def check_model(model: LanguageModel) -> SelfCheck:
    """Measure a loaded model; nothing is assumed of its family."""
    tokens = model.encode(_TEXTS)
    batch = model.pad(tokens)
    before = model.logits(batch)
    with recorded(model, model.sites):
        model.logits(batch)
    after = model.logits(batch)
    singles = torch.cat([model.logits(model.pad([ids])) for ids in tokens])
    largest = max(1.0, float(before.abs().max()))
    resume_error = _resume_error(model, batch, before) / largest
    tolerance = _TOLERANCES.get(model.dtype, 1e-5)
    return SelfCheck(
        untouched_bit_equal=bool(torch.equal(before, after)),
        padding_error=float((before - singles).abs().max()) / largest,
        resumes=resume_error <= tolerance,
        resume_error=resume_error,
        mlp_error=verify_sites(model),
        special_tokens=model.special_tokens.described(model.tokenizer),
        tolerance=tolerance,
    )


def _resume_error(model: LanguageModel, batch, expected: Tensor) -> float:
    layers = range(1, model.n_layers)
    kept = model.run(batch, keep_inputs=layers).inputs
    errors = [
        float((model.run(batch, start=n, rows=kept[n]).logits - expected).abs().max())
        for n in layers
    ]
    return max(errors, default=0.0)
