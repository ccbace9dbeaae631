"""What is taken away from the page: sets, a command, and with :mod:`broca.play.script` code."""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any

from broca.neurons import NeuronSet
from broca.play.editing import chip_set
from broca.play.material import Material
from broca.play.script import python_code
from broca.play.state import Chip, SetAsked, State

LONGEST_WORD = 131_071  # bytes that Linux takes as one argument of a command


def joined_set(material: Material, asked: SetAsked) -> NeuronSet:
    """The neurons of chips as one ordinary neuron set, in the order of the chips.

    What each chip was stands in the setting `made_of`.

    Raises:
        PlayError: The server has no such set.
        NeuronError: The model has no such neuron.
    """
    sets = [chip_set(material, chip) for chip in asked.chips]
    found = reduce(or_, sets)
    same = len(sets) == 1 and asked.chips[0].set is not None
    if same:
        return replace(found, name=asked.name)
    made_of = [_part(chip, own) for chip, own in zip(asked.chips, sets, strict=True)]
    return replace(
        found, name=asked.name, method="play", settings={"made_of": made_of}, data_hash=""
    )


def _part(chip: Chip, neurons: NeuronSet) -> dict[str, Any]:
    """Where the neurons of a chip come from."""
    found = {"name": chip.name, "neurons": len(neurons), "method": neurons.method}
    if chip.set is not None:
        return found | {"settings": dict(neurons.settings), "data_hash": neurons.data_hash}
    return found | ({} if chip.origin is None else chip.origin.model_dump(exclude_defaults=True))


def command_line(material: Material, state: State) -> tuple[str, list[str]]:
    """A command that asks the same, and what it cannot say, a sentence each."""
    words, missing = ["broca", "ask"], []
    if state.active:
        missing.append("Matched random neurons are on the page and in the Python code only.")
    if state.answer.strip():
        missing.append(
            "The chosen answer's P and rank are on the page and in the Python code only."
        )
    if material.model.revision:
        missing.append(f"The command cannot say revision {material.model.revision} of the model.")
    words += ["--model", material.model.name, "--dtype", material.dtype]
    if state.form != "cloze":
        words += ["--form", state.form]
    for shot in state.shots:
        words += ["--shot", shot]
    factors = [chip.factor for chip in state.active if chip.change == "scale"]
    for chip in state.active:
        if chip.change == "mean" or (chip.change == "scale" and chip.factor != factors[0]):
            missing.append(f"The command cannot say what is done with {chip.name}.")
            continue
        words += ["--off" if chip.change == "off" else "--scale", _typed(material, chip)]
    if factors:
        words += ["--factor", repr(factors[0])]
    if state.positions != "all" and {"--off", "--scale"} & set(words):
        words += ["--positions", state.positions]
    words += ["--tokens", str(state.tokens)]
    words += ["--", state.prompt] if state.prompt.startswith("-") else [state.prompt]
    if any("\0" in word for word in words):
        missing.append("A command cannot hold the letter NUL, which stands in it.")
    if any(len(word.encode()) > LONGEST_WORD for word in words):
        missing.append("It names more neurons than a shell takes: save them as a set first.")
    return shlex.join(words), missing


def _typed(material: Material, chip: Chip) -> str:
    """A chip's set on the command line: its file, or its neurons."""
    if chip.set in material.files:
        return str(material.files[chip.set].absolute())
    return ",".join(str(neuron) for neuron in chip_set(material, chip))


def code(material: Material, state: State) -> dict[str, Any]:
    """The page's state as Python and as a command."""
    command, missing = command_line(material, state)
    return {"python": python_code(material, state), "command": command, "missing": missing}
