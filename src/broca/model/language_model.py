"""The model under study: a thin shell around a transformers model, with two primitives.

1. :meth:`LanguageModel.touch` calls a function on the tensor at a site.
2. :meth:`LanguageModel.run` runs the layers from a given one on given rows
   (:mod:`broca.model.passes`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from broca.architectures import Layout
from broca.errors import NeuronError
from broca.model.adapters import settle_adapters
from broca.model.blocks import (
    Block,
    find_blocks,
    text_config,
    value_column,
    value_norms,
    value_weight,
)
from broca.model.device import names_of
from broca.model.embedded import has_embedded_vocabulary
from broca.model.experts import SlotFunction
from broca.model.loading import check_finite, fingerprint, load_module, unmark
from broca.model.passes import PassRunner
from broca.model.touching import Touch, touched, touched_apart, watched
from broca.model.wrappers import check_uncompiled, parts_around, refuse_encoders, unwrapped
from broca.neurons import SITES, Experts, ModelIdentity
from broca.neurons.identity import Widths, one_if_equal

_log = logging.getLogger("broca.model")


class LanguageModel(PassRunner):
    """A decoder model that transformers has loaded, with its neurons found.

    Args:
        module: A causal language model of transformers, or a PeftModel of one.
        tokenizer: Its tokenizer.
        name: What to call it in results; the configuration's name by default.
        layout: Where its blocks keep their sites, for a family broca does not recognise.
        merge_adapter: Merge adapters that are loaded into the weights of the module that was
            passed; False keeps them beside, and such a model cannot be edited in its weights.

    Attributes:
        notes: What was done to the weights, a sentence each.

    Raises:
        ModelError: If weights are not finite; if the blocks are not recognised, do not compute what
            their structure says, or a change at a site is not what moves the logits; if the model
            is not causal.
    """

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        *,
        name: str | None = None,
        revision: str | None = None,
        layout: Layout | None = None,
        merge_adapter: bool = True,
    ) -> None:
        module, notes = settle_adapters(unwrapped(module), merge=merge_adapter)
        self.notes: tuple[str, ...] = (*notes, *unmark(module))
        self.module: Any = module.eval()
        self.tokenizer = tokenizer
        self.revision = revision
        self.config = text_config(module)
        refuse_encoders(self.config)
        self.name = name or getattr(self.config, "name_or_path", "") or self.config.model_type
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        check_finite(module, self.name)
        self.blocks = find_blocks(module, layout)
        self.layers: list[nn.Module] = [block.module for block in self.blocks]
        self._around: dict[int, tuple[nn.Module, ...]] = {}  # what must not be compiled
        self.rows = 1  # prompts in the pass that runs now
        self.mlp_error = 0.0
        from broca.model.verify import verify_model

        verify_model(self)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        *,
        revision: str | None = None,
        dtype: str | torch.dtype = "auto",
        device_map: Any = None,
        attn_implementation: str | None = None,
        quantization_config: Any = None,
        trust_remote_code: bool = False,
        layout: Layout | None = None,
        adapter: str | None = None,
        merge_adapter: bool = True,
        **options: Any,
    ) -> LanguageModel:
        """Load a model by hub name, by path, or the embedded ``"atlas"``.

        Args:
            name_or_path: Name on the Hugging Face hub, folder, ``.gguf`` file, or ``"atlas"``.
            revision: Branch, tag or commit on the hub.
            dtype: As in transformers, e.g. ``"bfloat16"``; a GGUF file is unpacked to float32
                unless another is named.
            device_map: As in transformers, e.g. ``"auto"``.
            attn_implementation: As in transformers, e.g. ``"eager"``.
            quantization_config: As in transformers.
            trust_remote_code: Run code that comes with the model; off by default.
            layout: See the class.
            adapter: Folder of an adapter (LoRA) to put on the model. A folder of an adapter may
                also stand in the model's place: then it names the model.
            merge_adapter: See the class.
            **options: Handed to ``AutoModelForCausalLM.from_pretrained``.

        Raises:
            ModelError: If there is no such model or its blocks cannot be used.
        """
        loaded = load_module(
            name_or_path,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            revision=revision,
            device_map=device_map,
            attn_implementation=attn_implementation,
            quantization_config=quantization_config,
            adapter=adapter,
            **options,
        )
        model = cls(
            loaded.module,
            loaded.tokenizer,
            name=f"{name_or_path} + {adapter}" if adapter else name_or_path,
            revision=revision,
            layout=layout,
            merge_adapter=merge_adapter,
        )
        model.notes = (*loaded.notes, *model.notes)
        for note in model.notes:
            _log.warning(note)
        return model

    # ---- what the model is

    @property
    def widths(self) -> dict[str, Widths]:
        """Neurons per layer for every site the model has, in the order of SITES.

        One number where all layers are alike, else one per layer.
        """
        per_layer = [block.widths() for block in self.blocks]
        found = {
            site: one_if_equal(sum(layer.get(site, (0, 0))) for layer in per_layer)
            for site in SITES
        }
        return {site: widths for site, widths in found.items() if widths}

    @cached_property
    def is_embedded(self) -> bool:
        """Whether this is the embedded model, or a copy of it with other weights."""
        return has_embedded_vocabulary(self.tokenizer)

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites this model has."""
        return tuple(self.widths)

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks."""
        return len(self.blocks)

    @cached_property
    def identity(self) -> ModelIdentity:
        """Name, weights fingerprint and shape."""
        parts = [block.experts for block in self.blocks]
        experts = tuple(Experts(p.number, p.width) if p else Experts(0, 0) for p in parts)
        return ModelIdentity(
            self.name,
            fingerprint(self.module),
            self.n_layers,
            self.widths,
            experts if any(parts) else (),
        )

    @property
    def device_name(self) -> str:
        """What its weights lie on: names of GPUs, or of the processor."""
        return names_of({parameter.device for parameter in self.module.parameters()})

    @cached_property
    def drive(self):
        """How the model may be driven, measured: see :class:`broca.model.drive.Drive`."""
        from broca.model.drive import measure_drive

        return measure_drive(self)

    @cached_property
    def coverage(self):
        """How much of its MLPs the neurons cover: see :class:`broca.model.coverage.Coverage`."""
        from broca.model.coverage import measure_coverage

        return measure_coverage(self)

    def block(self, layer: int) -> Block:
        """The sites of one decoder block."""
        return self.blocks[layer]

    def module_path(self, site: str, layer: int) -> str:
        """Path of the module at whose output a site is found (`hidden`: at whose input).

        Such as ``model.layers.3.mlp.down_proj``, as in `named_modules()` of the transformers
        model. Fused projections hold several sites, one behind the other.

        Raises:
            NeuronError: If the model has no such site or layer.
        """
        self.identity_check(site, layer)
        source = self.blocks[layer].source(site)
        return next(name for name, module in self.module.named_modules() if module is source)

    def value_weight(self, layer: int) -> Tensor:
        """Value vectors of a layer's ordinary neurons, [d_model, d_ff]: column i is neuron i's.

        In a layer with experts these are the shared expert's, which come behind the others.
        """
        return value_weight(self.blocks[layer])

    def value_norms(self, layer: int) -> Tensor:
        """Lengths of a layer's value vectors, float32 [neuron], experts first."""
        return value_norms(self.blocks[layer])

    def value_column(self, layer: int, index: int) -> Tensor:
        """The value vector of one hidden neuron, [d_model]: a view of the weights."""
        return value_column(self.blocks[layer], index)

    def __repr__(self) -> str:
        return f"<LanguageModel {self.name}: {self.n_layers} layers, {self.widths}>"

    # ---- primitive 1: touch a site

    @contextmanager
    def touch(self, site: str, layer: int, function: Touch) -> Iterator[None]:
        """Call a function on the tensor at a site in every forward pass of the block.

        The function gets [prompt, token, neuron] and returns a tensor of that shape to put in
        its place, or None to leave it. The hook is removed whatever happens. In a layer with
        experts, neurons of experts that a token is not routed to are 0 and stay so; where there
        is a shared expert too, the function is called for the experts and for it, the other's
        neurons being 0. To read alone, use :meth:`watch`.

        Raises:
            NeuronError: If the model has no such site or layer.
        """
        self.identity_check(site, layer)
        with touched(self, site, layer, function):
            yield

    @contextmanager
    def watch(self, site: str, layer: int, function: Callable[[Tensor], None]) -> Iterator[None]:
        """Call a function with all values at a site, [prompt, token, neuron], once per pass.

        Raises:
            NeuronError: If the model has no such site or layer.
        """
        self.identity_check(site, layer)
        with watched(self, site, layer, function):
            yield

    @contextmanager
    def touch_apart(
        self,
        site: str,
        layer: int,
        in_experts: SlotFunction,
        ordinary: Touch,
    ) -> Iterator[None]:
        """Touch a site without filling in zeros where tokens do not reach an expert.

        What the functions return takes the values' place; None leaves them.

        Args:
            site: The site.
            layer: The layer.
            in_experts: Gets values [slot, neuron of the expert] and which slots these are.
            ordinary: Gets [prompt, token, neuron] of the layer's other neurons.

        Raises:
            NeuronError: If the model has no such site or layer.
        """
        self.identity_check(site, layer)
        with touched_apart(self, site, layer, in_experts, ordinary):
            yield

    def identity_check(self, site: str, layer: int) -> None:
        """Refuse a site or layer that the model does not have, or where hooks would not run.

        Raises:
            NeuronError: If it has not.
            ModelError: If a part of the model was compiled after it had been loaded.
        """
        if 0 <= layer < self.n_layers and self.blocks[layer].width(site):
            if layer not in self._around:
                self._around[layer] = parts_around(self.module, self.blocks[layer].module)
            check_uncompiled(self._around[layer])
            return
        if site not in self.widths:
            raise NeuronError(
                f"{self.name} has no site {site!r}", mend=f"It has {', '.join(self.sites)}."
            )
        if not 0 <= layer < self.n_layers:
            raise NeuronError(
                f"{self.name} has no layer {layer}",
                mend=f"Layers go from 0 to {self.n_layers - 1}.",
            )
        raise NeuronError(f"Layer {layer} of {self.name} has no site {site!r}")

    def self_check(self):
        """Measure what broca relies on: see :class:`broca.model.check.SelfCheck`."""
        from broca.model.check import check_model

        return check_model(self)
