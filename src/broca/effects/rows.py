"""Replaced neurons as branches of the last token: one row per neuron, in four forms.

1. *wavefront*: a hidden neuron writes ``v w`` into the product W h. With r in its place the row
   behind its layer is ``output - tail(W h) + tail(W h - (v - r) w)``: rank one, nothing of the
   layer itself is computed again. Rows pass through the layers above; behind the last layer there
   is only the final norm and the head (the closed form).
2. *packed*: copies of the last token behind the prompt, the neuron set by a hook.
3. *rows*: copies as batch rows on the prefix's cache, the neuron set by a hook.
4. *whole*: copies of whole prompts, for models of which no prefix can be kept.

The norm behind the MLP (post-norm blocks) acts as it does in the model: effects are no path, so
nothing is frozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from broca.attributions.tails import Tail, down_bias
from broca.effects.aims import Aim
from broca.effects.nearby import Nearby
from broca.effects.reading import Reader
from broca.model import LanguageModel
from broca.model.branches import (
    BasePass,
    BranchesRefusedError,
    run_packed,
    run_rows,
    run_wavefront,
    run_whole,
)

FORMS = ("wavefront", "packed", "rows", "whole")


@dataclass(frozen=True)
class Ablation:
    """One prompt ready to have neurons replaced.

    Attributes:
        model: The model under study.
        base: Its base pass, of one prompt.
        aim: What is read.
        replacement: What stands in the neurons' place, [layer, neuron].
        reader: Reads it.
        nearby: The sum over the vocabulary near the untouched row, where many rows are read.
    """

    model: LanguageModel
    base: BasePass
    aim: Aim
    replacement: Tensor
    reader: Reader
    nearby: Nearby | None = None

    def objective(self) -> float:
        """The objective with nothing replaced."""
        return float(self.aim.read(self.base.logits[0]))

    @torch.no_grad()
    def replaced(self, form: str, layer: int, neurons: Tensor) -> Tensor:
        """The objective with each of some neurons of a layer replaced, float64 [neuron].

        Raises:
            BranchesRefusedError: If the model cannot be driven in this form.
            ModelError: If the wavefront needs value vectors and the model is quantised.
        """
        return self.replaced_in(form, {layer: neurons})

    @torch.no_grad()
    def replaced_in(self, form: str, neurons: Mapping[int, Tensor]) -> Tensor:
        """The same of neurons of several layers, in the order of the layers.

        In a wavefront they pass the layers above together. Errors are those of :meth:`replaced`.
        """
        shift = float(self.base.logits[0].max())
        if form == "wavefront":
            rows = {layer: self._rows_behind(layer, some) for layer, some in neurons.items()}
            layers = range(min(rows), max(rows) + 1)
            none = rows[layers.start][:, :0]

            def run() -> Tensor:
                return run_wavefront(
                    self.model, self.base, layers, lambda layer: rows.get(layer, none)
                )

            return self.reader.read(run, self.aim, shift, self.nearby)
        return torch.cat([self._driven(form, layer, neurons[layer], shift) for layer in neurons])

    def _driven(self, form: str, layer: int, neurons: Tensor, shift: float) -> Tensor:
        drive = {"packed": run_packed, "rows": run_rows, "whole": run_whole}[form]
        put = self._putting(form, layer, neurons)
        with self.model.touch("hidden", layer, put):
            return self.reader.read(
                lambda: drive(self.model, self.base, len(neurons)),
                self.aim,
                shift,
                self.nearby,
            )

    def _rows_behind(self, layer: int, neurons: Tensor) -> Tensor:
        """What leaves a layer with one neuron replaced in each row, [1, row, d_model]."""
        base, block = self.base, self.model.block(layer)
        if block.experts is not None or not block.linear:
            raise BranchesRefusedError(f"layer {layer} writes more than W h into the stream")
        vectors = self.model.value_weight(layer).T
        neurons = neurons.to(vectors.device)
        there = base.hidden[layer][0]
        change = there - self.replacement[layer, : len(there)].to(there)
        written = change[neurons, None] * vectors[neurons]
        output, tail = base.output[layer].unsqueeze(1), Tail(block, None)
        if tail.linear:
            return output - tail(written).to(output.device)
        bias = down_bias(block)
        product = (base.down[layer] if bias is None else base.down[layer] - bias).unsqueeze(1)
        return output + (tail(product - written) - tail(product)).to(output.device)

    def _putting(self, form: str, layer: int, neurons: Tensor):
        n = len(neurons)
        neurons = neurons.to(self.base.hidden[layer].device)

        def put(values: Tensor) -> Tensor:
            new = values.clone()
            rows = new[0, -n:] if form == "packed" else new[:, -1]
            rows[torch.arange(n), neurons] = self.replacement[layer].to(rows)[neurons]
            return new

        return put
