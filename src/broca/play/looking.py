"""One neuron: what it promotes, where it is strongest, what it serves, where its sets lie."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from broca.neurons import Neuron, NeuronSet
from broca.play.editing import chip_set
from broca.play.finding import drawn
from broca.play.jobs import Job
from broca.play.material import Material
from broca.play.state import NeuronAsked, State
from broca.readout import Firing, check_neuron, find_firings, read_values
from broca.report.parts.charts import neurons_per_layer_and_site
from broca.run.served import Served, holding, mean_values

_TOKENS = 12  # promoted, and suppressed
_PROMPTS = 8  # shown
_GROUPS = 6  # relations and fields shown
_AT_ONCE = 16  # prompts between two looks whether anybody waits, or has left
_SETS = 6  # sets whose layers are drawn
_HELD = 20  # sets that are named


def look(material: Material, asked: NeuronAsked, job: Job) -> dict[str, Any]:
    """Everything that the panel of a neuron shows.

    Raises:
        NeuronError: The model has no such neuron.
        Stopped: Nobody waits for it any more.
    """
    wanted = Neuron.parse(asked.neuron)
    check_neuron(material.model, wanted)
    firings = list(_firings(material, wanted, job))
    firings.sort(key=lambda firing: (-abs(firing.value), firing.prompt.id))
    return {
        "neuron": str(wanted),
        "hook": wanted.hook_name(gated="gate" in material.model.widths),
        "tokens": _tokens(material, wanted),
        "firings": [_plain(firing) for firing in firings[:_PROMPTS]],
        "n_prompts": len(firings),
        "means": {kind: _means(firings, kind) for kind in ("relation", "field")},
        "served": [vars(one) for one in served(material, wanted)[:_HELD]],
        "figures": _layers(material, asked.state, wanted),
    }


def _firings(material: Material, wanted: Neuron, job: Job) -> Iterator[Firing]:
    start, prompts = time.monotonic(), material.reference
    for at in range(0, len(prompts), _AT_ONCE):
        job.progress("Reading prompts", at, len(prompts), time.monotonic() - start)
        start += job.give_way()
        yield from find_firings(material.model, wanted, prompts[at : at + _AT_ONCE])


def _tokens(material: Material, wanted: Neuron) -> dict[str, Any] | None:
    """Tokens that it raises and lowers; None where its site has no value vector."""
    if wanted.site not in ("hidden", "gate", "up"):
        return None
    read = read_values(material.model, [wanted], n_tokens=_TOKENS)[0]
    ends = {"raises": read.top, "lowers": read.bottom}
    listed = {name: [[one.token, one.score] for one in end] for name, end in ends.items()}
    return {**listed, "length": read.length}


def _plain(firing: Firing) -> dict[str, Any]:
    about = filter(None, (firing.prompt.relation, firing.prompt.field))
    return {
        "tokens": firing.tokens,
        "position": firing.position,
        "value": firing.value,
        "values": firing.values,
        "about": " · ".join(dict.fromkeys(about)),
    }


def _means(firings: Sequence[Firing], kind: str) -> list[dict[str, Any]]:
    rows = mean_values(firings, kind)
    return [vars(row) for row in rows[:_GROUPS]] if len(rows) > 1 else []


def served(material: Material, wanted: Neuron) -> list[Served]:
    """Sets of the run that hold it, of queries those by the first method, by its relative rank."""
    found = [
        one
        for name, neurons in list(material.sets.items())
        for one in holding(wanted, name, neurons)
    ]
    for file, sets in material.queries.items():
        for query, size in sets.counts(sets.methods[0]).items():
            if size:
                neurons = sets.neurons(query, sets.methods[0])
                found += holding(wanted, f"{file}/{query}", neurons)
    return sorted(found, key=lambda one: (one.rank / one.size, one.name))


def _layers(material: Material, state: State, wanted: Neuron) -> list[dict[str, Any]]:
    """How many neurons of the chips, or of the sets that hold it, lie in which layer."""
    chips = {chip.name: chip_set(material, chip) for chip in state.chips[:_SETS]}
    names = list(dict.fromkeys(one.name for one in served(material, wanted)))[:_SETS]
    sets: dict[str, NeuronSet] = chips or {name: material.find_set(name) for name in names}
    rows = [
        {"panel": name, "site": site, "layer": layer, "count": count}
        for name, neurons in sets.items()
        for (site, layer), count in neurons.counts().items()
    ]
    if not rows:
        return []
    of = "the sets in use" if chips else "the sets that hold it"
    figure = neurons_per_layer_and_site(
        rows,
        title=f"Layers of {of}",
        caption=f"Neurons per layer. {wanted} lies in layer {wanted.layer}.",
        n_layers=material.model.n_layers,
    )
    return [drawn(figure, "layers")]
