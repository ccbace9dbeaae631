"""How much of a model's MLPs its neurons cover: told always, so that nothing is left out unseen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from broca.model.blocks import Block
from broca.model.parts import get

if TYPE_CHECKING:
    from broca.model.language_model import LanguageModel

_MLP_WORDS = ("mlp", "feed_forward", "ffn", "expert", "moe", "fc1", "fc2", "dense_h_to_4h")
_OTHER_WORDS = (
    "router",
    "statics",
    "hc_",
    "_hc.",
    "hyper_connection",
    "norm",
    "attn",
    "attention",
    "mamba",
    "conv",
    "shared_expert_gate",
)


@dataclass(frozen=True)
class Coverage:
    """What broca's neurons are neurons of.

    Attributes:
        parameters: Weights of the projections whose neurons are found.
        of_parameters: Weights of all MLPs and experts in the decoder's layers, routers excluded.
        layers: Layers with neurons.
        of_layers: Layers.
        without: Layers that have an MLP or experts by name and no neurons.
    """

    parameters: int
    of_parameters: int
    layers: int
    of_layers: int
    without: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every MLP weight belongs to a found neuron."""
        return self.parameters >= self.of_parameters and not self.without

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for files and pages."""
        return {**asdict(self), "without": list(self.without), "complete": self.complete}

    def __str__(self) -> str:
        return (
            f"neurons in {self.parameters:,} of {self.of_parameters:,} MLP parameters, "
            f"{self.layers} of {self.of_layers} layers"
        )


def measure_coverage(model: LanguageModel) -> Coverage:
    """Count what was found against what is there by name."""
    found, total, without = 0, 0, []
    for layer, block in enumerate(model.blocks):
        own: dict[int, nn.Parameter] = {}
        modules = [block.down] if block.down is not None else []
        sites = [site for site in ("gate", "up") if site in block.parts]
        modules += [get(block.module, block.parts[site].path) for site in sites]
        modules += [block.experts.module] if block.experts is not None else []
        for module in modules:
            own.update({id(p): p for p in module.parameters() if p.dim() > 1})
        named = {
            id(p): p
            for name, p in block.module.named_parameters()
            if p.dim() > 1 and _is_mlp(name, block)
        }
        found += sum(p.numel() for p in own.values())
        total += sum(p.numel() for p in {**named, **own}.values())
        if named and not block.has_neurons:
            without.append(layer)
    layers = sum(block.has_neurons for block in model.blocks)
    return Coverage(found, total, layers, model.n_layers, tuple(without))


def _is_mlp(name: str, block: Block) -> bool:
    path = name.rpartition(".")[0]
    if any(word in name for word in _OTHER_WORDS):
        return False
    is_router = block.experts is not None and path.rpartition(".")[2] in ("gate", "wg")
    return not is_router and any(word in name for word in _MLP_WORDS)
