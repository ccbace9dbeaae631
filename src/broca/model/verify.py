"""Checks at load, by arithmetic: what the structure promises is what the model computes.

1. Every site is computed once per block and pass; hidden is act(gate) * up, down is W hidden.
2. q, k and v are what the attention reads (:mod:`broca.model.attention_sites`).
3. What lies behind the MLP is measured (:mod:`broca.model.residual`).
4. The rule: in every layer one neuron per site is put to 0, by a function at the site and by zeros
   in the weights that compute or read it. Both move the logits, and alike.
5. A later token does not change the logits at earlier ones.

What fails 1, 4 or 5 is refused, whatever wraps the model and whatever its family.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from broca.errors import BrocaError, ModelError
from broca.model.attention_sites import choose_attention_sites
from broca.model.blocks import Block, value_column, value_weight
from broca.model.numbers import is_numbers
from broca.model.parts import rows_of_part
from broca.model.residual import measure_residual

if TYPE_CHECKING:
    from broca.model.language_model import LanguageModel

_MLP_SITES = ("gate", "up", "hidden", "down")
_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-2}


def tolerance(dtype: torch.dtype) -> float:
    """What two ways of computing the same logits may differ by, as a share of the largest one."""
    return _TOLERANCES.get(dtype, 5e-2)  # bfloat16 has 8 bits


@contextmanager
def recorded(model: LanguageModel, sites: Sequence[str]) -> Iterator[dict]:
    """Keep the tensors of some sites of all layers of the next pass."""
    kept: dict[tuple[str, int], Tensor] = {}
    with ExitStack() as stack:
        for layer in range(model.n_layers):
            for site in sorted(set(sites) & set(model.block(layer).widths())):

                def keep(tensor: Tensor, key: tuple[str, int] = (site, layer)) -> None:
                    # A copy: some families go on to change the tensor itself.
                    kept[key] = tensor.detach().clone()

                stack.enter_context(model.watch(site, layer, keep))
        yield kept


def sample_ids(model: LanguageModel, n_tokens: int = 5) -> list[int]:
    """Some token ids of the model's vocabulary, none of them special in most vocabularies."""
    embedding = getattr(model.module.get_input_embeddings(), "weight", None)
    if embedding is None:
        raise ModelError(f"{model.config.model_type} has no embedding of tokens", model.name)
    size = embedding.shape[0]
    return [(7 * i + 31) % size for i in range(n_tokens)]


@torch.no_grad()
def verify_model(model: LanguageModel) -> None:
    """All checks above, in order.

    Raises:
        ModelError: Naming the first that fails, where, and what to do.
    """
    _refuse_shared(model)
    ids = sample_ids(model)
    plain, seen = _first_pass(model, ids)
    model.mlp_error = max(
        (_verify_layer(model, layer, seen) for layer in range(model.n_layers)), default=0.0
    )
    choose_attention_sites(model, ids[:2], tolerance(model.dtype))
    measure_residual(model, ids, 100 * tolerance(model.dtype))
    _verify_edits(model, ids, plain, seen)
    _verify_causal(model, ids, plain)


def _refuse_shared(model: LanguageModel) -> None:
    places: dict[int, int] = {}
    for layer, block in enumerate(model.blocks):
        for part in (block.down, block.experts.module if block.experts else None):
            first = places.setdefault(id(part), layer) if part is not None else layer
            if first != layer:
                raise ModelError(
                    f"Layers {first} and {layer} share one MLP, so its neurons have no layer",
                    model.name,
                )


def _first_pass(model: LanguageModel, ids: list[int]) -> tuple[Tensor, dict]:
    """Logits of an untouched pass, and all MLP sites of one that is watched."""
    batch = model.pad([ids])
    try:
        plain = model.logits(batch, len(ids))
    except BrocaError:
        raise
    except Exception as error:  # whatever a family's forward raises
        raise ModelError(
            f"{model.config.model_type} does not run on tokens alone",
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        ) from error
    if not torch.isfinite(plain).all():
        return plain, _watched_pass(model, batch, ids)[1]
    watched, seen = _watched_pass(model, batch, ids)
    if _relative(watched, plain) > tolerance(model.dtype):
        raise ModelError(
            "Reading the sites changes the logits",
            f"{model.name}, by {_relative(watched, plain):.1e} of the largest",
        )
    return plain, seen


def _watched_pass(model: LanguageModel, batch, ids: list[int]) -> tuple[Tensor, dict]:
    calls: Counter[tuple[str, int]] = Counter()
    with ExitStack() as stack:
        for layer, block in enumerate(model.blocks):
            handle = block.module.register_forward_hook(_note_output)
            stack.callback(handle.remove)
            for site in set(_MLP_SITES) & set(block.widths()):

                def count(tensor: Tensor, key: tuple[str, int] = (site, layer)) -> None:
                    calls[key] += 1

                stack.enter_context(model.watch(site, layer, count))
        seen = stack.enter_context(recorded(model, _MLP_SITES))
        logits = model.logits(batch, len(ids))
    for layer, block in enumerate(model.blocks):
        for site in set(_MLP_SITES) & set(block.widths()):
            if calls[site, layer] != 1:
                raise ModelError(
                    f"Site {site} of layer {layer} was computed {calls[site, layer]} times in a "
                    "pass",
                    model.name,
                    "Pass a Layout that names the modules the block really calls.",
                )
    return logits, seen


def _note_output(module, args, output) -> None:
    """Primitive 2 hands on what the block itself returns: a tensor, a tuple or a list."""
    module._broca_returns = type(output)


def _relative(a: Tensor, b: Tensor) -> float:
    scale = b.float().abs().max().clamp(min=1e-12)
    return float((a.float() - b.float()).abs().max() / scale)


# ---- 1. formulas


def _verify_layer(model: LanguageModel, layer: int, seen: dict) -> float:
    """Check a layer's dense MLP (or shared expert); returns the error of its formula."""
    block = model.block(layer)
    if block.down is None:
        return 0.0
    allowed = 10 * tolerance(model.dtype)
    routed = block.experts.total if block.experts else 0
    values = {s: seen[s, layer] for s in _MLP_SITES if (s, layer) in seen}
    own = {
        site: tensor[..., routed if site == "hidden" or _is_wide(block, site) else 0 :]
        for site, tensor in values.items()
    }
    if own["up"].shape != own["hidden"].shape:
        raise ModelError(
            f"up has {own['up'].shape[-1]} neurons and hidden {own['hidden'].shape[-1]} in layer "
            f"{layer}",
            model.name,
            "The block computes something else than its structure says; pass a Layout.",
        )
    error = _formula_error(block, own)
    if error > allowed:
        error = _structure_error(model, layer, own)
    if error > allowed:
        formula = "act(gate) * up" if block.gated else "act(up)"
        raise ModelError(
            f"hidden is not {formula} in layer {layer} (relative error {error:.2g})",
            model.name,
            "The block computes something else than its structure says; pass a Layout.",
        )
    if block.experts is None and is_numbers(getattr(block.down, "weight", None)):
        product = own["hidden"] @ value_weight(block).T.to(own["hidden"])
        bias = getattr(block.down, "bias", None)
        product = product if bias is None else product + bias.to(product)
        if _relative(product, own["down"]) > allowed:
            raise ModelError(
                f"down is not W hidden in layer {layer}",
                model.name,
                "An adapter that does more than add to weights cannot be kept beside: merge it "
                "(merge_adapter = true)."
                if hasattr(block.down, "base_layer")
                else "The block computes something else than its structure says; pass a Layout.",
            )
    return error


def _is_wide(block: Block, site: str) -> bool:
    return block.experts is not None and site in block.experts.sites


def _formula_error(block: Block, own: dict[str, Tensor]) -> float:
    """The smallest error over the activations that may be meant; that one is kept."""
    errors = []
    for function in block.activations:
        try:
            expected = function(own["gate" if block.gated else "up"])
        except Exception:  # what a family keeps under such a name may be something else
            errors.append(float("inf"))
            continue
        expected = expected.float() * own["up"].float() if block.gated else expected
        errors.append(_relative(expected, own["hidden"]))
    if not errors:
        return float("inf")
    best = min(range(len(errors)), key=errors.__getitem__)
    block.activations = [block.activations[best], *block.activations]
    return errors[best]


def _structure_error(model: LanguageModel, layer: int, own: dict[str, Tensor]) -> float:
    """Without a formula: hidden turns with the sign of up, and moves with the gate.

    For activations over a whole layer (Gemma 3n keeps the largest gates alone). Of a plain MLP
    neuron i of hidden moves with neuron i of up alone.
    """
    block = model.block(layer)
    batch = model.pad([sample_ids(model)])
    routed = block.experts.total if block.experts else 0
    half = own["up"].shape[-1] // 2

    def change(tensor: Tensor) -> Tensor:
        if block.gated:
            return -tensor
        moved = tensor.clone()
        moved[..., -half:] += 1.0
        return moved

    with model.touch("up", layer, change), recorded(model, ("hidden",)) as seen:
        model.logits(batch)
    hidden = seen["hidden", layer][..., routed:]
    block.activations = []
    if block.gated:
        return _relative(-hidden, own["hidden"])
    return _relative(hidden[..., :-half], own["hidden"][..., :-half])


# ---- 4. the rule


def _verify_edits(model: LanguageModel, ids: list[int], plain: Tensor, seen: dict) -> None:
    batch = model.pad([ids])
    _verify_reach(model, batch, plain)
    missing = [site for site in model.sites if site not in _MLP_SITES]
    with recorded(model, missing) as more:
        model.logits(batch)
    seen = {**seen, **more}
    for site in model.sites:
        chosen = {
            layer: int(seen[site, layer].flatten(0, -2).float().abs().amax(0).argmax())
            for layer in range(model.n_layers)
            if (site, layer) in seen
        }
        by_hook = _zeroed_by_hook(model, batch, site, chosen, len(ids))
        views = [_weights_of(model.block(n), site, i) for n, i in chosen.items()]
        if any(view is None for view in views):
            by_weights = None
        else:
            with _zeroed([tensor for view in views for tensor in view or ()]):
                by_weights = model.logits(batch, len(ids))
        moves = by_weights is None or not torch.equal(by_weights, plain)
        if moves and torch.equal(by_hook, plain):
            raise ModelError(
                f"Neurons of site {site} are put to 0 and the logits do not move",
                model.name,
                "Something around the model keeps its own computation; pass the model itself.",
            )
        if by_weights is None:
            continue
        allowed = max(tolerance(model.dtype), 1e-3 * _relative(by_hook, plain))
        if _relative(by_hook, by_weights) > allowed:
            raise ModelError(
                f"Putting neurons of site {site} to 0 is not what zeros in their weights do",
                f"{model.name}, logits differ by {_relative(by_hook, by_weights):.1e} of the "
                "largest",
                "The block computes something else than its structure says.",
            )


def _verify_reach(model: LanguageModel, batch, plain: Tensor) -> None:
    """What an MLP puts out moves the logits, also where weights of all zeros hide its neurons."""
    layers = [n for n, block in enumerate(model.blocks) if "down" in block.widths()]
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(model.touch("down", layer, _waved))
        moved = model.logits(batch, plain.shape[1])
    if layers and torch.equal(moved, plain):
        raise ModelError(
            "What the MLPs put out is changed and the logits do not move",
            model.name,
            "Something around the model keeps its own computation; pass the model itself.",
        )


def _waved(tensor: Tensor) -> Tensor:
    wave = torch.sin(torch.arange(tensor.shape[-1], device=tensor.device) * 1.7)
    return tensor + wave.to(tensor) * (1 + tensor.abs().max())


def _zeroed_by_hook(
    model: LanguageModel, batch, site: str, chosen: dict[int, int], n_tokens: int
) -> Tensor:
    with ExitStack() as stack:
        for layer, index in chosen.items():

            def zero(tensor: Tensor, index: int = index) -> Tensor:
                tensor = tensor.clone()
                tensor[..., index] = 0
                return tensor

            stack.enter_context(model.touch(site, layer, zero))
        return model.logits(batch, n_tokens)


def _weights_of(block: Block, site: str, index: int) -> list[Tensor] | None:
    """Views of the weights whose zeros put a neuron to 0; None where there are no such numbers."""
    experts = block.experts
    if site == "down" and experts is not None:
        return None
    try:
        if site == "hidden":
            beside = hasattr(block.down, "base_layer")  # an adapter, which adds to the numbers
            return None if beside else _numbers([value_column(block, index)])
        if experts is not None and site in experts.sites:
            if index < experts.total:
                return _numbers(experts.input_rows(site, index))
            index -= experts.total
    except ModelError:  # quantised
        return None
    module: Any = block.source(site)
    ordinary = ("Linear", "Conv1D", "NonDynamicallyQuantizableLinear")
    if type(module).__name__ not in ordinary or hasattr(module, "base_layer"):
        return None
    if not is_numbers(module.weight):
        return None
    cut = "all" if site == "down" else block.parts[site].cut
    row = int(rows_of_part(module, cut, block.head_counts)[index])
    weight, bias = module.weight, module.bias
    rows = [weight[:, row] if type(module).__name__ == "Conv1D" else weight[row]]
    return _numbers(rows if bias is None else [*rows, bias[row]])


def _numbers(views: list[Tensor]) -> list[Tensor] | None:
    good = all(v.is_floating_point() and not v.is_meta and v.element_size() > 1 for v in views)
    return views if good else None


@contextmanager
def _zeroed(views: list[Tensor]) -> Iterator[None]:
    """Zeros in the weights, put back bit by bit."""
    before = [view.clone() for view in views]
    try:
        for view in views:
            view.zero_()
        yield
    finally:
        for view, kept in zip(reversed(views), reversed(before), strict=True):
            view.copy_(kept)


# ---- 5. causality


def _verify_causal(model: LanguageModel, ids: list[int], plain: Tensor) -> None:
    size = model.module.get_input_embeddings().weight.shape[0]
    other = [*ids[:-1], (ids[-1] + 11) % size]
    changed = model.logits(model.pad([other]), len(ids))
    if changed.shape[1] < 2 or not torch.isfinite(plain).all():
        return
    if _relative(changed[:, :-1], plain[:, :-1]) > tolerance(model.dtype):
        raise ModelError(
            f"{model.config.model_type} is not causal: a later token changes earlier logits",
            model.name,
            "Use a decoder; some need is_decoder=True in their configuration.",
        )
