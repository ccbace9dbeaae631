"""`broca ask`: one prompt, with and without neurons switched off or scaled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broca.cli.output import say, show
from broca.errors import InterventionError

if TYPE_CHECKING:
    from broca.interventions import Intervention


def ask(
    prompt: Annotated[str, typer.Argument(help="The text the model goes on with.")],
    model: Annotated[str, typer.Option(help="Hub name, folder, .gguf file, or 'atlas'.")] = "atlas",
    off: Annotated[
        list[Path] | None, typer.Option(help="Neuron set to switch off; repeatable.")
    ] = None,
    scale: Annotated[
        list[Path] | None, typer.Option(help="Neuron set to scale; repeatable.")
    ] = None,
    factor: Annotated[float, typer.Option(help="What --scale multiplies by.")] = 2.0,
    top: Annotated[int, typer.Option(help="Next tokens to show.", min=1)] = 5,
    tokens: Annotated[int, typer.Option(help="Tokens of the answer.", min=1)] = 6,
    dtype: Annotated[str, typer.Option(help="As in transformers.")] = "auto",
) -> None:
    """Answer a prompt with and without neurons, side by side, with probabilities."""
    from broca.interventions import Deactivate, Scale, intervene
    from broca.neurons import NeuronSet

    if not off and not scale:
        raise InterventionError(
            "there is nothing to compare with", mend="Give --off SET.json or --scale SET.json"
        )
    switched = [(path, NeuronSet.load(path)) for path in off or []]
    scaled = [(path, NeuronSet.load(path)) for path in scale or []]
    from broca.model import LanguageModel

    loaded = LanguageModel.from_pretrained(model, dtype=dtype)
    changes: list[Intervention] = [Deactivate(neurons) for _, neurons in switched]
    changes += [Scale(neurons, factor) for _, neurons in scaled]
    for _, neurons in [*switched, *scaled]:
        neurons.check(loaded.identity)
    before = _look(loaded, prompt, top, tokens)
    with intervene(loaded, *changes):
        after = _look(loaded, prompt, top, tokens)
    names = [f"{path.name} off" for path, _ in switched]
    names += [f"{path.name} × {factor:g}" for path, _ in scaled]
    _draw(prompt, " and ".join(names), before, after)
    say(f"{sum(len(neurons) for _, neurons in [*switched, *scaled])} neurons of {loaded.name}")


def _look(model, prompt: str, top: int, tokens: int) -> tuple[str, list[tuple[str, float]]]:
    """The greedy answer and the most probable next tokens."""
    probabilities = model.probabilities([prompt])[0]
    best = probabilities.topk(min(top, len(probabilities)))
    listed = [
        (model.tokenizer.decode([token]), p)
        for token, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    return model.answer(prompt, tokens), listed


def _draw(
    prompt: str,
    changed: str,
    before: tuple[str, list[tuple[str, float]]],
    after: tuple[str, list[tuple[str, float]]],
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("untouched", "P", changed, "P"):
        table.add_column(Text(heading), justify="right" if heading == "P" else "left")
    table.add_row(Text(before[0].strip()), "", Text(after[0].strip()), "", end_section=True)
    for (one, p), (other, q) in zip(before[1], after[1], strict=True):
        table.add_row(Text(repr(one)), f"{p:.4f}", Text(repr(other)), f"{q:.4f}")
    show(prompt)
    show(table)
