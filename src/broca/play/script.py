"""The page's state as a Python script that computes its numbers, one condition at a time."""

from __future__ import annotations

from collections.abc import Sequence

from broca.neurons import NeuronSet
from broca.play.editing import asked_text, chip_set
from broca.play.material import Material
from broca.play.state import Chip, State


def python_code(material: Material, state: State) -> str:
    """A script that computes the page's numbers, clean, edited and matched.

    Run, it has `found`: name -> next-token probabilities, log P of the answer, rank of its first
    token.

    Raises:
        PlayError, PromptError, NeuronError: The state cannot be used here.
    """
    text = asked_text(material, state)
    pairs = [(chip, chip_set(material, chip)) for chip in state.active]
    chips = [(chip, neurons) for chip, neurons in pairs if len(neurons)]
    at_mean = any(chip.change == "mean" for chip, _ in chips)
    model = material.model
    where = f", revision={model.revision!r}" if model.revision else ""
    lines = [
        "import math",
        "from contextlib import nullcontext",
        "",
        *(["import numpy as np", ""] if at_mean else []),
        "import broca",
        "from broca.answers import BORDERS, answer_tokens",
        *(["from broca.neurons import matched_together"] if chips else []),
        "",
        f"model = broca.LanguageModel.from_pretrained({model.name!r}{where}, "
        f"dtype={material.dtype!r})",
        f"prompt = {text!r}",
        *_target(state.answer.strip()),
    ]
    if chips:
        lines += ["sets = [", *(f"    {_named(material, *one)}," for one in chips), "]", ""]
        texts = [prompt.text for prompt in material.mean_prompts(text)] if at_mean else []
        lines += [*_means(texts), "", *_changes([chip for chip, _ in chips], state.positions)]
    lines += _LOOK
    if chips:
        lines += [
            'found["edited"] = look("edited", changes(sets))',
            f"for seed in range({state.draws}):",
            "    matched = changes(matched_together(sets, seed))",
            '    found[f"matched {seed}"] = look(f"matched {seed}", matched)',
        ]
    return "\n".join(lines) + "\n"


def _target(answer: str) -> list[str]:
    """Tokens of the answer that is measured, as the page chooses them."""
    lines = ["first = model.probabilities([prompt])[0]"]
    if not answer:
        return [*lines, "target = [int(first.argmax())]"]
    return [
        *lines,
        f"variants = [answer_tokens(model, prompt, {answer!r}, border) for border in BORDERS]",
        "target = list(max(filter(None, variants), key=lambda tokens: float(first[tokens[0]])))",
    ]


_LOOK = [
    "",
    "",
    "def look(name, changes):",
    "    ids = [*model.encode([prompt])[0], *target[:-1]]",
    "    behind = len(target) - 1",
    "    with broca.intervene(model, *changes, after_prompt=behind) if changes else nullcontext():",
    "        logits = model.logits(model.pad([ids]), logits_to_keep=len(target))[0]",
    "    log_p = float(logits.log_softmax(-1)[list(range(len(target))), target].sum())",
    "    rank = int((logits[0] > logits[0, target[0]]).sum()) + 1",
    "    p = logits[0].softmax(-1)",
    "    best = p.topk(5)",
    "    pairs = zip(best.indices.tolist(), best.values.tolist())",
    '    print(name, f"P {math.exp(log_p):.4f}, log P {log_p:.4f}, rank {rank}:", end=" ")',
    '    print(*(f"{model.tokenizer.decode([i])!r} {value:.4f}" for i, value in pairs))',
    "    return p, log_p, rank",
    "",
    "",
    'found = {"untouched": look("untouched", [])}',
]


def _named(material: Material, chip: Chip, neurons: NeuronSet) -> str:
    """A chip's set in Python."""
    if chip.set in material.files:
        return f"broca.NeuronSet.load({str(material.files[chip.set].absolute())!r})"
    names = [str(neuron) for neuron in neurons]
    parsed = f"[broca.Neuron.parse(name) for name in {names!r}]"
    return f"broca.NeuronSet.of({parsed}, model.identity, name={chip.name!r})"


def _means(texts: Sequence[str]) -> list[str]:
    """A function that gives neurons' means over other prompts; nothing where there are none."""
    if not texts:
        return []
    return [
        f"others = [broca.Prompt(str(i), text, ()) for i, text in enumerate({list(texts)!r})]",
        "",
        "",
        "def means(neurons):",
        "    sites = sorted({neuron.site for neuron in neurons})",
        '    seen = broca.record_responses(model, others, sites, pooling="last")',
        "    means = []",
        "    for neuron in neurons:",
        "        values = seen.block(neuron.site, neuron.layer)[:, neuron.index]",
        "        reached = values[~np.isnan(values)]  # in experts not every prompt's",
        "        means.append(float(reached.mean()) if len(reached) else 0.0)",
        "    return tuple(means)",
        "",
    ]


def _changes(chips: Sequence[Chip], positions: str) -> list[str]:
    """A function that makes the chips' changes of sets, which may be matched ones."""
    lines = ["def changes(sets):", "    return ["]
    for number, chip in enumerate(chips):
        of = f"sets[{number}]"
        made = {
            "off": f"broca.Deactivate({of}, {positions!r})",
            "scale": f"broca.Scale({of}, {chip.factor!r}, {positions!r})",
            "mean": f"broca.Fix({of}, means({of}), {positions!r})",
        }[chip.change]
        lines.append(f"        {made},")
    return [*lines, "    ]"]
