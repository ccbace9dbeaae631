"""What is taken away from the page: sets, code, a command, a graph."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any

from broca.neurons import NeuronSet
from broca.play.editing import asked_text, chip_set
from broca.play.material import Material
from broca.play.state import Chip, SetAsked, State


def joined_set(material: Material, asked: SetAsked) -> NeuronSet:
    """The neurons of chips as one ordinary neuron set, in the order of the chips.

    Raises:
        PlayError: The server has no such set.
        NeuronError: The model has no such neuron.
    """
    sets = [chip_set(material, chip) for chip in asked.chips]
    found = reduce(or_, sets)
    same = len(sets) == 1 and asked.chips[0].set is not None
    if same:
        return replace(found, name=asked.name)
    made_of = [chip.set or "by hand" for chip in asked.chips]
    return replace(
        found, name=asked.name, method="play", settings={"made_of": made_of}, data_hash=""
    )


# ---- code


def python_code(material: Material, state: State) -> str:
    """A script that computes the page's numbers: P of the next token, clean, edited and matched.

    Raises:
        PlayError, PromptError, NeuronError: The state cannot be used here.
    """
    chips = [(chip, _named(material, chip)) for chip in state.active]
    lines = [
        "from contextlib import nullcontext",
        "",
        "import broca",
        *(["from broca.neurons import matched_together"] if chips else []),
        "",
        f"model = broca.LanguageModel.from_pretrained({material.model.name!r})",
        f"prompt = {asked_text(material, state)!r}",
    ]
    if chips:
        lines += ["sets = [", *(f"    {text}," for _, text in chips), "]", ""]
        lines += ["", *_changes(material, [chip for chip, _ in chips], state.positions)]
    lines += [
        "",
        "",
        "def look(name, changes):",
        "    with broca.intervene(model, *changes) if changes else nullcontext():",
        "        p = model.probabilities([prompt])[0]",
        "    best = p.topk(5)",
        "    pairs = zip(best.indices.tolist(), best.values.tolist())",
        '    print(name, *(f"{model.tokenizer.decode([i])!r} {value:.4f}" for i, value in pairs))',
        "    return p",
        "",
        "",
        'found = {"untouched": look("untouched", [])}',
    ]
    if chips:
        lines += [
            'found["edited"] = look("edited", changes(sets))',
            f"for seed in range({state.draws}):",
            "    matched = changes(matched_together(sets, seed))",
            '    found[f"matched {seed}"] = look(f"matched {seed}", matched)',
        ]
    return "\n".join(lines) + "\n"


def _named(material: Material, chip: Chip) -> str:
    """A chip's set in Python."""
    if chip.set in material.files:
        return f"broca.NeuronSet.load({str(material.files[chip.set].absolute())!r})"
    names = [str(neuron) for neuron in chip_set(material, chip)]
    parsed = f"[broca.Neuron.parse(name) for name in {names!r}]"
    return f"broca.NeuronSet.of({parsed}, model.identity, name={chip.name!r})"


def _changes(material: Material, chips: Sequence[Chip], positions: str) -> list[str]:
    """A function that makes the chips' changes of sets, which may be matched ones."""
    lines = []
    if any(chip.change == "mean" for chip in chips):
        texts = [prompt.text for prompt in material.reference]
        lines += [
            f"others = [broca.Prompt(str(i), text, ()) for i, text in enumerate({texts!r})]",
            "",
            "",
            "def means(neurons):",
            "    sites = sorted({neuron.site for neuron in neurons})",
            '    found = broca.record_responses(model, others, sites, pooling="last")',
            "    return tuple(",
            "        float(found.block(n.site, n.layer)[:, n.index].mean()) for n in neurons",
            "    )",
            "",
            "",
        ]
    lines += ["def changes(sets):", "    return ["]
    for number, chip in enumerate(chips):
        of = f"sets[{number}]"
        made = {
            "off": f"broca.Deactivate({of}, {positions!r})",
            "scale": f"broca.Scale({of}, {chip.factor!r}, {positions!r})",
            "mean": f"broca.Fix({of}, means({of}), {positions!r})",
        }[chip.change]
        lines.append(f"        {made},")
    return [*lines, "    ]"]


def command_line(material: Material, state: State) -> tuple[str, list[str]]:
    """A command that asks the same, and what it cannot say, a sentence each."""
    words = ["broca", "ask", state.prompt, "--model", material.model.name]
    if state.form != "cloze":
        words += ["--form", state.form]
    for shot in state.shots:
        words += ["--shot", shot]
    missing = ["Matched random neurons are on the page and in the Python code only."]
    factors = [chip.factor for chip in state.active if chip.change == "scale"]
    for chip in state.active:
        if chip.change == "mean" or (chip.change == "scale" and chip.factor != factors[0]):
            missing.append(f"The command cannot say what is done with {chip.name}.")
            continue
        words += ["--off" if chip.change == "off" else "--scale", _typed(material, chip)]
    if factors:
        words += ["--factor", f"{factors[0]:g}"]
    if state.active and state.positions != "all":
        words += ["--positions", state.positions]
    words += ["--tokens", str(state.tokens)]
    if any(word.startswith("-") for word in (state.prompt, *state.shots)):
        missing.append("A prompt that begins with a hyphen needs -- before it.")
    return shlex.join(words), missing if state.active else missing[1:]


def _typed(material: Material, chip: Chip) -> str:
    """A chip's set on the command line: its file, or its neurons."""
    if chip.set in material.files:
        return str(material.files[chip.set].absolute())
    return ",".join(str(neuron) for neuron in chip_set(material, chip))


def code(material: Material, state: State) -> dict[str, Any]:
    """The page's state as Python and as a command."""
    command, missing = command_line(material, state)
    return {"python": python_code(material, state), "command": command, "missing": missing}
