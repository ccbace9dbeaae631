"""Value vectors changed in a model's own weights, and put back bit by bit.

The output of an MLP is the sum of its hidden neurons times their value vectors. Scaling a value
vector is therefore scaling its neuron, at every position:

========  ===========================================  =========================================
site      the same edit of the value vector            refused
========  ===========================================  =========================================
hidden    any factor                                   –
up        any factor where the MLP is gated (hidden    plain MLP: all but 0
          is linear in up); 0 where act(0) = 0
gate      0 where act(0) = 0                           any other factor
others    –                                            they have no value vector
========  ===========================================  =========================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from broca.errors import EditError
from broca.interventions import Fix, Scale
from broca.model import LanguageModel
from broca.model.adapters import adapted_layers
from broca.model.numbers import is_plain
from broca.neurons import Neuron, NeuronSet

_NUMBERS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, eq=False)
class ValueVectors:
    """What is added to the value vectors of some hidden neurons.

    Attributes:
        neurons: Which neurons, of site ``hidden``.
        change: Added to their value vectors, float32 [neuron, d_model], in the set's order.
        about: What the change is for, one line.
    """

    neurons: NeuronSet
    change: Tensor
    about: str = ""

    def __post_init__(self) -> None:
        if len(self.neurons.only(site="hidden")) != len(self.neurons):
            raise EditError("Only hidden neurons have value vectors of their own")
        if self.change.dim() != 2 or len(self.change) != len(self.neurons):
            raise EditError(
                f"{tuple(self.change.shape)} is no change of {len(self.neurons)} value vectors"
            )
        if not torch.isfinite(self.change).all():
            raise EditError("A change of a value vector is not finite")


WeightEdit = Scale | ValueVectors
Columns = dict[int, dict[int, Tensor]]  # layer -> neuron -> new value vector, [d_model]


def value_columns(model: LanguageModel, neurons: NeuronSet) -> Tensor:
    """Value vectors of hidden neurons, float32 [neuron, d_model], in the set's order."""
    places = zip(neurons.layers.tolist(), neurons.indices.tolist(), strict=True)
    return torch.stack([model.value_column(layer, i).float().cpu() for layer, i in places])


@contextmanager
def edited(model: LanguageModel, *edits: WeightEdit) -> Iterator[LanguageModel]:
    """The model with its value vectors changed until the block ends, whatever happens in it.

    Args:
        model: The model under study; its weights are changed in place and put back.
        edits: Made one after the other: ``Scale`` and ``Deactivate`` at all positions, and new
            value vectors.

    Raises:
        EditError: If the weights cannot be edited or an edit cannot be written into them.
        NeuronError: If a set belongs to a model of another shape.
    """
    check_editable(model)
    columns = new_columns(model, edits)
    before = {
        layer: {i: model.value_column(layer, i).clone() for i in found}
        for layer, found in columns.items()
    }
    try:
        _write(model, columns)
        yield model
    finally:
        _write(model, before)


@torch.no_grad()
def _write(model: LanguageModel, columns: Columns) -> None:
    for layer, found in columns.items():
        for index, column in found.items():
            model.value_column(layer, index)[...] = column


def check_editable(model: LanguageModel) -> None:
    """Refuse weights that are quantised, under an adapter, not in memory, or shared by layers.

    Raises:
        EditError: Naming the cure.
    """
    config = getattr(model.module, "config", None)
    if getattr(config, "quantization_config", None) or getattr(model.module, "hf_quantizer", None):
        raise EditError(
            "A quantised model cannot be edited", model.name, "Load it without quantisation."
        )
    beside = next((name for name, _ in adapted_layers(model.module)), None)
    if beside:
        raise EditError(
            "A model with an adapter beside its weights cannot be edited",
            f"{model.name}, {beside}",
            "Load it with the adapter merged.",
        )
    seen: dict[int, int] = {}
    for layer, part, weight in _value_weights(model):
        if not is_plain(weight) or weight.dtype not in _NUMBERS:
            raise EditError(
                "A quantised model cannot be edited",
                f"{model.name}, layer {layer}: {type(part).__name__}",
                "Load it without quantisation.",
            )
        if weight.is_meta:
            raise EditError(
                f"The weights of layer {layer} are not in memory",
                model.name,
                "Load the model with a device_map that offloads nothing.",
            )
        first = seen.setdefault(weight.data_ptr(), layer)
        if first != layer:
            raise EditError(
                f"Layers {first} and {layer} share their value vectors",
                model.name,
                "An edit of one would change the other.",
            )


def _value_weights(model: LanguageModel) -> Iterator[tuple[int, nn.Module, object]]:
    """Every layer's value vectors: of its MLP or shared expert, and of its experts."""
    for layer, block in enumerate(model.blocks):
        if block.down is not None:
            yield layer, block.down, getattr(block.down, "weight", None)
        if block.experts is not None:
            yield layer, block.experts.module, getattr(block.experts.module, "down_proj", None)


@torch.no_grad()
def new_columns(model: LanguageModel, edits: tuple[WeightEdit, ...]) -> Columns:
    """The value vectors that edits change, as they are afterwards.

    Raises:
        EditError: If an edit cannot be written into the weights.
    """
    if not edits:
        raise EditError("There is nothing to edit")
    columns: Columns = {}

    def column(layer: int, index: int) -> Tensor:
        known = columns.setdefault(layer, {})
        return known.get(index, model.value_column(layer, index))

    for edit in edits:
        edit.neurons.check(model.identity)
        if isinstance(edit, ValueVectors):
            for neuron, change in zip(edit.neurons, edit.change, strict=True):
                old = column(neuron.layer, neuron.index)
                new = (old.float() + change.to(old.device)).to(old.dtype)
                columns[neuron.layer][neuron.index] = new
        else:
            for (layer, index), factor in _factors(model, edit).items():
                old = column(layer, index)
                columns[layer][index] = old * factor if factor else torch.zeros_like(old)
    return columns


def _factors(model: LanguageModel, edit: Scale) -> Mapping[tuple[int, int], float]:
    """What each unit's value vector is multiplied by; sites of one unit multiply up."""
    if isinstance(edit, Fix) or not isinstance(edit, Scale):
        raise EditError(
            f"{type(edit).__name__} cannot be written into value vectors",
            mend="Use Deactivate or Scale.",
        )
    if edit.positions != "all":
        raise EditError(
            "Weights act at every position",
            f"positions={edit.positions!r}",
            "Use positions='all', or intervene without saving.",
        )
    factors: dict[tuple[int, int], float] = {}
    for neuron in edit.neurons:
        _check_site(model, neuron, edit.factor)
        key = (neuron.layer, neuron.index)
        factors[key] = factors.get(key, 1.0) * edit.factor
    return factors


def _check_site(model: LanguageModel, neuron: Neuron, factor: float) -> None:
    block = model.block(neuron.layer)
    if neuron.site not in ("hidden", "up", "gate"):
        raise EditError(
            f"Neurons of site {neuron.site!r} have no value vector",
            str(neuron),
            "Edit hidden neurons; of a mixed set take neurons.only(site='gate').",
        )
    if neuron.site == "hidden":
        return
    expert = model.identity.expert_of(neuron.site, neuron.layer, neuron.index)
    if expert is not None and block.experts is not None:
        linear, vanishes = block.experts.gate_rules()
    else:
        zero = torch.zeros(1, dtype=model.dtype, device=model.device)
        linear = block.gated
        vanishes = block.activation is not None and not block.activation(zero).any()
    if (neuron.site == "up" and linear) or (factor == 0 and vanishes):
        return
    raise EditError(
        f"Multiplying {neuron.site} by {factor:g} is no change of a value vector",
        str(neuron),
        "The activation lies between them: scale the hidden neuron instead.",
    )
