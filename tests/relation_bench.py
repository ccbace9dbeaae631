"""The planted world as files, prepared for the relation studies once per process."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from broca.engines import LocalEngine
from broca.neurons import NeuronSet
from broca.run.bench import RunBench
from broca.store import RunFolder
from broca.studies.relations import Material, RelationsConfig, prepare
from broca.studies.study import Plan, Results, Study
from planted import Planted, planted_world

K = 6  # neurons planted per relation
CONCEPTS = {"person": "person", "company": "company", "place": "place", "product": "product"}
SETTINGS: dict[str, Any] = {
    "form": "question",
    "sites": ("hidden",),
    "k": K,
    "n_evaluation": 12,
    "n_checked": 8,
    "n_matched": 20,
    "n_matched_whole": 3,
    "n_active": 0,
    "n_uniform": 1,
    "n_other": 4,
    "n_permutations": 2000,
    "n_resamples": 200,
    "languages": ("de",),
    "other_templates": ("robustness",),
    "batch_size": 96,
}


class Prepared(NamedTuple):
    """The planted world at a bench."""

    world: Planted
    bench: RunBench
    material: Material


class Done(NamedTuple):
    """One study, measured."""

    plan: Plan
    results: Results
    found: Any  # Findings; a figure is compared without asking whether it is None


def write_facts(folder: Path, world: Planted) -> Path:
    """The planted facts in both languages as a facts folder; which facts are weak is a band."""
    facts, templates = [], []
    for name in world.templates:
        for fact in world.facts_of(name):
            record = {
                "id": f"{name}/{fact.subject}",
                "relation": name,
                "subject": fact.subject,
                "objects": {"en": list(fact.objects), "de": list(fact.objects)},
                "band": fact.tolerance - 1,
                "exposure": float(fact.tolerance),
            }
            facts.append(json.dumps(record))
        field = world.field_of(name)
        templates += [f'[{name}]\nfield = "{field}"\nconcept = "{CONCEPTS[field]}"']
        templates += [f'object_kind = "{name}"', f"[{name}.templates.en]"]
        templates += [f"{s} = {json.dumps(list(w))}" for s, w in world.templates[name].items()]
        templates += [
            f"[{name}.templates.de]",
            f"finding = {json.dumps(list(world.german[name]['finding']))}",
        ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "facts.jsonl").write_text("\n".join(facts) + "\n", encoding="utf-8")
    (folder / "templates.toml").write_text("\n".join(templates) + "\n", encoding="utf-8")
    return folder


def write_texts(folder: Path, world: Planted) -> dict[str, str]:
    """Carriers for the objects and neutral prose about the subjects, in words the model has."""
    carriers = [{"kind": name, "text": "We know that {} is called"} for name in world.templates]
    subjects = {fact.subject: world.field_of(fact.relation) for fact in world.facts}
    prose = [
        {
            "concept": CONCEPTS[field],
            "subject": subject,
            "predicate": "is_known",
            "text": f"We know that {subject} is called",
        }
        for subject, field in subjects.items()
    ]
    paths = {}
    for name, records in (("carriers", carriers), ("prose", prose)):
        path = folder / f"{name}.jsonl"
        path.write_text("\n".join(map(json.dumps, records)) + "\n", encoding="utf-8")
        paths[name] = str(path)
    return paths


@lru_cache(maxsize=1)
def prepared() -> Prepared:
    """Neurons of the planted relations, found once."""
    world = planted_world()
    place = Path(tempfile.mkdtemp(prefix="planted-"))
    texts = write_texts(place, world)
    config = RelationsConfig(facts=str(write_facts(place / "facts", world)), **texts, **SETTINGS)
    folder = RunFolder.create(place / "run", {})
    bench = RunBench(world.language_model(), folder, LocalEngine(), config.batch_size)
    return Prepared(world, bench, prepare(config, bench))


def planted_sets() -> dict[str, NeuronSet]:
    """The planted neurons as sets: what a perfect finder would find."""
    world, identity = prepared().world, prepared().material.index.identity
    return {n: NeuronSet.of(neurons, identity, name=n) for n, neurons in world.planted.items()}


def done(study: Study, **changes: Any) -> Done:
    """One study measured on the planted world, with other settings or sets where given."""
    ready = prepared()
    sets = changes.pop("sets", ready.material.sets)
    config = replace(ready.material.config, **changes)
    material = replace(ready.material, config=config, sets=sets)
    plan = study.plan(material, ready.bench)
    results = ready.bench.measure(study.name, plan)
    return Done(plan, results, study.summarise(material, results))
