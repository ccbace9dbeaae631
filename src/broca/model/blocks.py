"""Find the sites of every decoder block, or refuse: never a silently wrong or missing tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter

import torch
from torch import Tensor, nn

from broca.architectures import (
    ACTIVATIONS,
    ATTENTION_FORMS,
    ATTENTION_OUTPUTS,
    ATTENTION_PATHS,
    EXPERT_NAMES,
    INTERLEAVED_FORM,
    INTERLEAVED_QKV,
    LAYER_PATHS,
    MLP_FORMS,
    MULTIPLIERS,
    POST_MLP_NORMS,
    Layout,
    Part,
)
from broca.errors import ModelError

_TELL = (
    "Describe the block yourself: LanguageModel(model, tokenizer, layout=broca.Layout("
    "layers='model.layers', down='mlp.down_proj', up=broca.Part('mlp.up_proj'), ...))."
)


@dataclass(frozen=True)
class Block:
    """One decoder block with its sites found.

    Attributes:
        module: The block itself.
        mlp: The module that holds the MLP (the block itself for OPT).
        down: The down projection: its input is ``hidden``, its output is ``down``.
        attention: The attention module, None if it was not recognised.
        parts: Where every other site is.
        post_mlp_norm: Norm between the MLP's output and the residual stream, if there is one.
        multiplier: Factor between the MLP's output and the residual stream.
        activation: Function between the input and the down projection.
        gated: Whether the MLP has a gate.
        head_counts: Attention heads and key-value heads, to cut fused projections.
    """

    module: nn.Module
    mlp: nn.Module
    down: nn.Module
    attention: nn.Module | None
    parts: dict[str, Part]
    post_mlp_norm: nn.Module | None
    multiplier: float
    activation: Callable[[Tensor], Tensor] | None
    gated: bool
    head_counts: tuple[int, int]

    def source(self, site: str) -> nn.Module:
        """The module at whose output (``hidden``: at whose input) a site is found."""
        if site in ("hidden", "down"):
            return self.down
        return get(self.module, self.parts[site].path)


def get(module: nn.Module, path: str | None) -> nn.Module:
    """The submodule at a dotted path (None or "": the module itself)."""
    return attrgetter(path)(module) if path else module


def has(module: nn.Module, path: str) -> bool:
    """Whether there is something at a dotted path."""
    try:
        return get(module, path) is not None
    except AttributeError:
        return False


def find_blocks(model: nn.Module, layout: Layout | None = None) -> list[Block]:
    """All decoder blocks of a causal language model, in order.

    Raises:
        ModelError: If the model is a mixture of experts, or if no known structure fits every
            layer; the error tells what to pass.
    """
    config = text_config(model)
    layers = _find_layers(model, config, layout)
    for number, layer in enumerate(layers):
        for name, _ in layer.named_modules():
            if name.rpartition(".")[2] in EXPERT_NAMES:
                raise ModelError(
                    f"{config.model_type} has mixture-of-experts blocks",
                    f"layer {number}, module {name}",
                    "broca does not support experts yet; use a dense model.",
                )
    return [_find_block(layer, number, config, layout) for number, layer in enumerate(layers)]


def text_config(model: nn.Module):
    """The configuration of the decoder (multimodal models nest it)."""
    return model.config.get_text_config(decoder=True)  # type: ignore[union-attr]


def _find_layers(model: nn.Module, config, layout: Layout | None) -> nn.ModuleList:
    paths = (layout.layers,) if layout and layout.layers else LAYER_PATHS
    expected = getattr(config, "num_hidden_layers", None)
    for path in paths:
        if has(model, path):
            layers = get(model, path)
            if isinstance(layers, nn.ModuleList) and expected in (None, len(layers)):
                return layers
    raise ModelError(
        f"The {expected} decoder blocks of {config.model_type} were not found",
        f"looked at {', '.join(paths)}",
        _TELL,
    )


def _find_block(layer: nn.Module, number: int, config, layout: Layout | None) -> Block:
    layout = layout or _guess_layout(layer, number, config)
    wanted = {"gate": layout.gate, "up": layout.up, "q": layout.q, "k": layout.k, "v": layout.v}
    parts = {site: part for site, part in {**wanted, "o": layout.o}.items() if part is not None}
    for path in (layout.down, *(part.path for part in parts.values())):
        if not has(layer, path):
            raise ModelError(
                f"Layer {number} of {config.model_type} has no {path}",
                mend=f"All layers must have the same layout. {_TELL}",
            )
    heads = config.num_attention_heads
    attention = next((get(layer, path) for path in ATTENTION_PATHS if has(layer, path)), None)
    norm = next((get(layer, path) for path in POST_MLP_NORMS if has(layer, path)), None)
    multiplier = next((getattr(config, m) for m in MULTIPLIERS if hasattr(config, m)), 1.0)
    return Block(
        module=layer,
        mlp=get(layer, layout.down.rpartition(".")[0]),
        down=get(layer, layout.down),
        attention=attention,
        parts=parts,
        post_mlp_norm=norm,
        multiplier=float(multiplier),
        activation=get(layer, layout.activation) if layout.activation else None,
        gated=layout.gate is not None,
        head_counts=(heads, getattr(config, "num_key_value_heads", None) or heads),
    )


def _guess_layout(layer: nn.Module, number: int, config) -> Layout:
    for down, up, gate in MLP_FORMS:
        if all(has(layer, p) for p in (down, up.path, *([gate.path] if gate else []))):
            break
    else:
        raise ModelError(
            f"The MLP of {config.model_type} has no known structure",
            f"layer {number} has {', '.join(name for name, _ in layer.named_modules() if name)}",
            _TELL,
        )
    activation = next((path for path in ACTIVATIONS if has(layer, path)), None)
    mlp = Layout(down=down, up=up, gate=gate, activation=activation)
    return replace(mlp, **_guess_attention(layer, config))


def _guess_attention(layer: nn.Module, config) -> dict[str, Part]:
    """The attention sites, none of them where the projections cannot be told apart."""
    forms = list(ATTENTION_FORMS)
    if config.model_type in INTERLEAVED_QKV:
        forms.append(INTERLEAVED_FORM)
    for path in ATTENTION_PATHS:
        if not has(layer, path):
            continue
        attention = get(layer, path)
        for form in forms:
            if all(has(attention, part.path) for part in form):
                out = next((name for name in ATTENTION_OUTPUTS if has(attention, name)), None)
                found = dict(zip("qkv", form, strict=True))
                if out:
                    found["o"] = Part(out)
                return {s: replace(p, path=f"{path}.{p.path}") for s, p in found.items()}
    return {}


# ---- parts of fused tensors


def read_part(tensor: Tensor, cut: str, head_counts: tuple[int, int]) -> Tensor:
    """The part of a projection's output [..., width] that a site is."""
    kind, _, number = cut.partition("-")
    if kind == "all":
        return tensor
    which = int(number)
    width = tensor.shape[-1]
    if kind in ("half", "third"):
        size = width // (2 if kind == "half" else 3)
        return tensor[..., which * size : (which + 1) * size]
    heads, kv_heads = head_counts
    if kind == "heads":
        return tensor.unflatten(-1, (heads, 3, -1))[..., which, :].flatten(-2)
    sizes = [heads, kv_heads, kv_heads]
    unit = width // sum(sizes)
    start = sum(sizes[:which]) * unit
    return tensor[..., start : start + sizes[which] * unit]


def write_part(tensor: Tensor, cut: str, head_counts: tuple[int, int], part: Tensor) -> Tensor:
    """A copy of a projection's output with one site replaced."""
    kind, _, number = cut.partition("-")
    if kind == "all":
        return part
    whole = tensor.clone()
    if kind == "heads":
        view = whole.unflatten(-1, (head_counts[0], 3, -1))
        view[..., int(number), :] = part.unflatten(-1, (head_counts[0], -1))
        return view.flatten(-3)
    read_part(whole, cut, head_counts)[...] = part
    return whole


def value_weight(block: Block) -> Tensor:
    """The down projection as [d_model, d_ff]: column i is the value vector of hidden neuron i.

    Raises:
        ModelError: If the weight is quantised and cannot be read as numbers.
    """
    weight = block.down.weight
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        raise ModelError(
            "The down projection is quantised; its value vectors cannot be read",
            type(block.down).__name__,
            "Load the model without quantization_config.",
        )
    return weight.T if type(block.down).__name__ == "Conv1D" else weight


def widths_of(block: Block) -> dict[str, int]:
    """Neurons per site of one block, told by the shapes of its weights."""
    d_model, d_ff = _in_out(block.down)[::-1]
    found = {"gate": d_ff, "up": d_ff, "hidden": d_ff, "down": d_model}
    if not block.gated:
        del found["gate"]
    for site in "qkvo":
        if site in block.parts:
            fused = torch.empty(0, _in_out(block.source(site))[1], device="meta")
            found[site] = read_part(fused, block.parts[site].cut, block.head_counts).shape[-1]
    return found


def _in_out(module: nn.Module) -> tuple[int, int]:
    if type(module).__name__ == "Conv1D":
        return module.nx, module.nf  # type: ignore[return-value]
    if hasattr(module, "in_features"):
        return module.in_features, module.out_features  # type: ignore[return-value]
    raise ModelError(f"{type(module).__name__} is no projection that broca knows", mend=_TELL)
