"""Find the sites of every decoder block, or refuse: never a silently wrong or missing tensor.

Layers may differ: a block has a dense MLP, experts, both (a shared expert beside them) or neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from broca.architectures import (
    ACTIVATION_NAMES,
    ACTIVATIONS,
    ATTENTION_OUTPUTS,
    ATTENTION_PATHS,
    EXPERT_NAMES,
    FUSED_QKV,
    GATE_FACTORS,
    LAYER_PATHS,
    MLP_FORMS,
    MLP_PATHS,
    NO_DECODER,
    QKV_CUTS,
    SEPARATE_QKV,
    Layout,
    Part,
)
from broca.errors import ModelError
from broca.model.adapters import effective_weight
from broca.model.experts import ExpertPart, find_experts
from broca.model.numbers import is_numbers
from broca.model.parts import TELL, get, has, in_out, read_part

Activation = Callable[[Tensor], Tensor]


@dataclass
class Block:
    """One decoder block with its sites found.

    Attributes:
        module: The block itself.
        down: The down projection: its input is ``hidden``, its output is ``down``; of a layer with
            experts that of the shared expert. None where the layer has none.
        mlp: The module whose output is ``down`` in a layer with experts; None if there is none.
        attention: The attention module, None if it was not recognised.
        parts: Where every other site is.
        experts: The experts, None in a layer without.
        post_mlp_norm: Norm between the MLP's output and the residual stream, if there is one;
            like the next two it is measured (:mod:`broca.model.residual`).
        multiplier: Factor between the MLP's output (behind that norm) and what leaves the block.
        linear: Whether there is nothing but that norm and that factor between them.
        activations: What may lie between the input and the down projection; the first is what
            was found to hold when the sites were verified.
        gated: Whether the MLP has a gate.
        head_counts: Attention heads and key-value heads, to cut fused projections.
        fused: Candidates for fused q, k, v, of which arithmetic chooses.
    """

    module: nn.Module
    down: nn.Module | None = None
    mlp: nn.Module | None = None
    attention: nn.Module | None = None
    parts: dict[str, Part] = field(default_factory=dict)
    experts: ExpertPart | None = None
    post_mlp_norm: nn.Module | None = None
    multiplier: float = 1.0
    linear: bool = True
    activations: list[Activation] = field(default_factory=list)
    gated: bool = False
    head_counts: tuple[int, int] = (1, 1)
    fused: list[dict[str, Part]] = field(default_factory=list)

    @property
    def activation(self) -> Activation | None:
        """Function between the input and the down projection, None if none was found."""
        return self.activations[0] if self.activations else None

    @property
    def has_neurons(self) -> bool:
        """Whether the layer has an MLP or experts."""
        return self.down is not None or self.experts is not None

    def source(self, site: str) -> nn.Module:
        """The module at whose output (``hidden``: at whose input) an ordinary site is found."""
        if site == "down" and self.experts is not None:
            assert self.mlp is not None
            return self.mlp
        if site in ("hidden", "down"):
            assert self.down is not None
            return self.down
        return get(self.module, self.parts[site].path)

    def widths(self) -> dict[str, tuple[int, int]]:
        """Neurons per site, told by the shapes of weights: in experts, and ordinary ones."""
        sites = ("hidden", "gate", "up", "down", *"qkvo")
        found = {site: self.width(site) for site in sites}
        return {site: width for site, width in found.items() if width is not None}

    def width(self, site: str) -> tuple[int, int] | None:
        """The same of one site, None where the layer has none: asked whenever it is touched."""
        if site in ("hidden", "gate", "up"):
            everywhere = site == "hidden"
            in_experts = self.experts and (everywhere or site in self.experts.sites)
            routed = self.experts.total if self.experts and in_experts else 0
            has = self.down is not None and (everywhere or site in self.parts)
            own = in_out(self.down)[0] if self.down is not None and has else 0
            return (routed, own) if routed or own else None
        if site == "down":
            width = self._down_width()
        elif site in self.parts:
            fused = torch.empty(0, in_out(self.source(site))[1], device="meta")
            width = read_part(fused, self.parts[site].cut, self.head_counts).shape[-1]
        else:
            width = 0
        return (0, width) if width else None

    def _down_width(self) -> int:
        if self.experts is not None:
            return self.experts.d_model if self.mlp is not None else 0
        return in_out(self.down)[1] if self.down is not None else 0


def find_blocks(model: nn.Module, layout: Layout | None = None) -> list[Block]:
    """All decoder blocks of a causal language model, in order.

    Raises:
        ModelError: If no known structure fits the layers, or experts are kept in a way that
            cannot be reached; the error tells what to pass.
    """
    config = text_config(model)
    layers = _find_layers(model, config, layout)
    blocks = [_find_block(layer, number, config, layout) for number, layer in enumerate(layers)]
    if not any(block.has_neurons for block in blocks):
        raise ModelError(
            f"The MLP of {config.model_type} has no known structure",
            f"layer 0 has {', '.join(name for name, _ in layers[0].named_modules() if name)}",
            TELL,
        )
    return blocks


def text_config(model: nn.Module):
    """The configuration of the decoder (multimodal models nest it)."""
    return model.config.get_text_config(decoder=True)  # type: ignore[union-attr]


def _find_layers(model: nn.Module, config, layout: Layout | None) -> list[nn.Module]:
    paths = (layout.layers,) if layout and layout.layers else LAYER_PATHS
    expected = getattr(config, "num_hidden_layers", None)
    for path in paths:
        if has(model, path):
            layers = get(model, path)
            if isinstance(layers, nn.ModuleList) and expected in (None, len(layers)):
                return list(layers)
    elsewhere = [] if layout and layout.layers else _lists_of_layers(model, expected)
    if len(elsewhere) == 1:
        return list(elsewhere[0])
    raise ModelError(
        f"The {f'{expected} ' if expected else ''}decoder blocks of {config.model_type} "
        "were not found",
        f"looked at {', '.join(paths)}",
        TELL,
    )


def _lists_of_layers(model: nn.Module, expected: int | None) -> list[nn.ModuleList]:
    """Lists of as many equal modules as the decoder has layers, in no known place."""
    return [
        found
        for name, found in model.named_modules()
        if isinstance(found, nn.ModuleList)
        and len(found) == expected
        and len({type(layer) for layer in found}) == 1
        and not any(word in name for word in NO_DECODER)
        and any(find_mlp(layer)[0] for layer in found)
    ]


def _find_block(layer: nn.Module, number: int, config, layout: Layout | None) -> Block:
    heads = getattr(config, "num_attention_heads", None) or 1
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    attention = next((get(layer, path) for path in ATTENTION_PATHS if has(layer, path)), None)
    block = Block(
        module=layer,
        attention=attention,
        head_counts=(heads, kv_heads),
    )
    if layout is not None:
        return _described(block, layout, number, config)
    where, experts = find_experts(layer, number, config)
    block.experts = experts
    path, form = find_mlp(layer)
    _refuse_hidden_experts(layer, number, config, where)
    if experts is not None:
        block.mlp = _container(layer, where, path if form else None)
    if form is not None:
        down, up, gate = form
        block.down = get(layer, _under(path, down))
        block.parts["up"] = replace(up, path=_under(path, up.path))
        if gate is not None:
            block.parts["gate"] = replace(gate, path=_under(path, gate.path))
        block.gated = gate is not None
        block.activations = _activations(get(layer, path), config)
    _find_attention(block)
    return block


def _under(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def find_mlp(layer: nn.Module) -> tuple[str, tuple[str, Part, Part | None] | None]:
    """Where a block's dense MLP (or shared expert) is, and in which form; (…, None) for none."""
    for path in MLP_PATHS:
        if path and not has(layer, path):
            continue
        holder = get(layer, path)
        for form in MLP_FORMS:
            names = [form[0], form[1].path, *([form[2].path] if form[2] else [])]
            if all(_is_projection(holder, name) for name in names):
                return path, form
    return "", None


def _is_projection(holder: nn.Module, name: str) -> bool:
    return has(holder, name) and hasattr(get(holder, name), "weight")


def _refuse_hidden_experts(layer: nn.Module, number: int, config, known: str | None) -> None:
    """Experts that cannot be reached would be neurons silently left out."""
    for name, module in layer.named_modules():
        inside = known is not None and (name + ".").startswith(known + ".")
        if inside or name.rpartition(".")[2] not in EXPERT_NAMES or not _holds_weights(module):
            continue
        if known is not None and (known + ".").startswith(name + "."):
            continue  # the container of the experts that were found
        if name.rpartition(".")[2] == "router" and known is not None:
            continue
        raise ModelError(
            f"{config.model_type} keeps its experts in a way that broca does not reach",
            f"layer {number}, module {name} ({type(module).__name__})",
            "broca reaches experts through transformers' experts interface "
            "(config._experts_implementation).",
        )


def _holds_weights(module: nn.Module) -> bool:
    return any(parameter.dim() > 1 for parameter in module.parameters())


def _container(layer: nn.Module, experts: str | None, shared: str | None) -> nn.Module | None:
    """The module whose output is that of the experts and of the shared one together."""
    parent = (experts or "").rpartition(".")[0]
    if not parent or (shared is not None and not shared.startswith(parent)):
        return None
    return get(layer, parent)


def _described(block: Block, layout: Layout, number: int, config) -> Block:
    """The block as a user's layout describes it."""
    wanted = {site: getattr(layout, site) for site in ("gate", "up", "q", "k", "v", "o")}
    block.parts = {site: part for site, part in wanted.items() if part is not None}
    for path in (layout.down, *(part.path for part in block.parts.values())):
        if not has(block.module, path):
            raise ModelError(
                f"Layer {number} of {config.model_type} has no {path}",
                mend=f"All layers must have the same layout. {TELL}",
            )
    block.down = get(block.module, layout.down)
    block.gated = layout.gate is not None
    if layout.activation:
        block.activations = [get(block.module, layout.activation)]
    else:
        holder = get(block.module, layout.down.rpartition(".")[0])
        block.activations = _activations(holder, config)
    return block


def _activations(holder: nn.Module, config) -> list[Activation]:
    """The activation the MLP keeps, or candidates where it is written inline, by arithmetic."""
    own = [getattr(holder, name) for name in ACTIVATIONS if callable(getattr(holder, name, None))]
    named = [getattr(config, name, None) for name in ACTIVATION_NAMES]
    kept = [ACT2FN[name] for name in named if isinstance(name, str) and name in ACT2FN]
    found = [*own, *kept, *(ACT2FN[name] for name in ("silu", "gelu", "gelu_pytorch_tanh", "relu"))]
    factor = next((getattr(holder, name) for name in GATE_FACTORS if hasattr(holder, name)), 1.0)
    if factor == 1.0:
        return found
    return [partial(_scaled, function, float(factor)) for function in found]


def _scaled(function: Activation, factor: float, tensor: Tensor) -> Tensor:
    return function(tensor * factor)


# ---- attention


def _find_attention(block: Block) -> None:
    """q, k, v and o, where there are such projections; fused ones as candidates."""
    for path in ATTENTION_PATHS:
        if not has(block.module, path):
            continue
        attention = get(block.module, path)
        out = next((n for n in ATTENTION_OUTPUTS if _is_projection(attention, n)), None)
        candidates = _qkv_candidates(attention, path, block.head_counts)
        if not candidates:
            continue
        if out is not None:
            block.parts["o"] = Part(f"{path}.{out}")
        block.attention = attention
        block.fused = candidates
        return


def _qkv_candidates(
    attention: nn.Module, path: str, head_counts: tuple[int, int]
) -> list[dict[str, Part]]:
    for form in SEPARATE_QKV:
        if all(_is_projection(attention, part.path) for part in form):
            named = zip("qkv", form, strict=True)
            return [{site: replace(part, path=f"{path}.{part.path}") for site, part in named}]
    for name in FUSED_QKV:
        if _is_projection(attention, name):
            width = in_out(get(attention, name))[1]
            return [
                {s: Part(f"{path}.{name}", cut) for s, cut in zip("qkv", cuts, strict=True)}
                for cuts in QKV_CUTS
                if _divides(width, cuts[0], head_counts)
            ]
    return []


def _divides(width: int, cut: str, head_counts: tuple[int, int]) -> bool:
    heads, kv_heads = head_counts
    units = {
        "group": heads + 2 * kv_heads,
        "heads": 3 * heads,
        "shared": heads + 2 * kv_heads,
        "single": heads + 2,
        "fours": 12,
    }
    kind = cut.partition("-")[0]
    return width % units[kind] == 0 and heads % kv_heads == 0


def value_weight(block: Block) -> Tensor:
    """An ordinary down projection as [d_model, d_ff]: column i is hidden neuron i's value vector.

    Raises:
        ModelError: If the weight is quantised and cannot be read as numbers, or the layer has
            no MLP.
    """
    if block.down is None:
        raise ModelError("The layer has no MLP of its own, so it has no value vectors")
    weight = effective_weight(block.down)
    if not is_numbers(weight):
        raise ModelError(
            "The down projection is quantised; its value vectors cannot be read",
            type(block.down).__name__,
            "Load the model without quantization_config.",
        )
    down = getattr(block.down, "base_layer", block.down)  # of an adapter kept beside
    return weight.T if type(down).__name__ == "Conv1D" else weight


def value_column(block: Block, index: int) -> Tensor:
    """The value vector of one hidden neuron, [d_model]: a view of the weights, experts included.

    Raises:
        ModelError: If the weights are quantised.
    """
    in_experts = block.experts.total if block.experts else 0
    if block.experts is not None and index < in_experts:
        return block.experts.value_column(index)
    return value_weight(block)[:, index - in_experts]


def value_norms(block: Block) -> Tensor:
    """Lengths of all value vectors of a layer, float32 [neuron], experts first.

    Raises:
        ModelError: If the weights are quantised.
    """
    found = []
    if block.experts is not None:
        block.experts.value_column(0)  # refuses quantised weights
        weight = block.experts.module.down_proj
        axis = -1 if block.experts.transposed else -2
        found.append(weight.float().norm(dim=axis).flatten())  # type: ignore[operator]
    if block.down is not None:
        found.append(value_weight(block).float().norm(dim=0))
    return torch.cat([norms.to(found[0].device) for norms in found])
