"""Relation neurons without the studies: from a model and facts to neuron sets."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from broca.engines import LocalEngine
from broca.errors import RunError, StudyError
from broca.facts import RELATION_ALIASES, Relations, load_relations
from broca.facts.shipped import facts_for
from broca.locators import find_locator, locate
from broca.model import LanguageModel
from broca.neurons import NeuronSet
from broca.run.bench import RunBench
from broca.run.job import Job
from broca.store import RunFolder, file_name
from broca.studies.relations import FAMILY, Material, RelationsConfig, prepare

WORK = ".finding"
EXPERTISE = "expertise"
_MOST_PROMPTS, _MOST_OTHERS = 24, 96  # that a locator reads of a relation, and of all others


def find_relation_neurons(
    model: LanguageModel, relations: Relations | str | Path = "auto", **settings: Any
) -> dict[str, NeuronSet]:
    """The neurons of every relation that the model knows.

    Args:
        model: The model under study.
        relations: Loaded relations, or where to load them from.
        **settings: Fields of :class:`broca.studies.relations.RelationsConfig`, such as `k=3000`,
            `sites=("gate",)`, `detection_filter="none"`.

    Returns:
        Relation -> its neuron set, best neuron first. Relations the model does not know are
        left out.

    Raises:
        BrocaError: Whatever is wrong with facts or settings; no two relations are known.
    """
    given = relations if isinstance(relations, Relations) else None
    source = {} if given is not None else {"facts": str(relations)}
    config = RelationsConfig(**{**source, **settings})
    with (
        tempfile.TemporaryDirectory() as place,
        RunFolder.create(Path(place) / "run", {}) as folder,
    ):
        bench = RunBench(model, folder, LocalEngine(), config.batch_size, config.match)
        return dict(prepare(config, bench, given).sets)


def find_relations(
    job: Job,
    out: Path,
    wanted: Sequence[str] | None = None,
    tell: Callable[[str], None] | None = None,
    method: str = EXPERTISE,
) -> dict[Path, NeuronSet]:
    """Write a set file per relation; interrupted, the same call goes on.

    Args:
        job: Model and settings.
        out: Folder of the files, `<relation>.json` by `broca.store.file_name`.
        wanted: Only these relations' files; all relations still serve as negatives.
        tell: Told in which form the facts are asked, with a prompt.
        method: How neurons are ranked: by average precision over the sites, or by a locator, see
            `broca.locate`; it ranks hidden neurons, as many as average precision takes.

    Raises:
        RunError: A file would be overwritten.
        FactsError: A wanted relation is not there, or the model does not know it.
        EffectError: There is no such method.
    """
    if method != EXPERTISE:
        find_locator(method)
    config = job.settings["relations"]
    _refuse_others(out)
    if wanted is not None:  # a misspelt name is told before anything is computed
        facts = facts_for(config.facts, embedded=job.model.model == "atlas")
        known = load_relations(facts, templates=config.templates, language=config.language)
        known.subset(wanted)
    job.check()
    with RunFolder.begin(out / WORK, job.as_config()) as folder:
        bench = RunBench(job.model.load(), folder, LocalEngine(), config.batch_size, config.match)
        material = prepare(config, bench)
        chosen = list(material.names) if wanted is None else [_known(n, material) for n in wanted]
        sets = {n: _located(bench.model, material, n, method) for n in chosen}
    if tell is not None:
        for found in FAMILY.introduce(material).values():
            for words in found.words:
                tell(words)
    written = {}
    for name, neurons in sets.items():
        written[neurons.save(out / file_name(name, ".json"))] = neurons
    shutil.rmtree(out / WORK)
    return written


def _located(model: LanguageModel, material: Material, name: str, method: str) -> NeuronSet:
    """A relation's neurons by a method; of a locator, by the mean over its detection prompts."""
    if method == EXPERTISE:
        return material.sets[name]
    own = list(material.detection[name])[:_MOST_PROMPTS]
    rest = [list(material.detection[n])[:_MOST_PROMPTS] for n in material.names if n != name]
    others = [prompt for listed in zip(*rest, strict=False) for prompt in listed][:_MOST_OTHERS]
    locator = find_locator(method)
    if locator.learned:  # which reads all of them in every step
        others = others[: len(own)]
    settings = {"shared": True, "budget": material.k} if locator.learned else {}
    found = locate(model, own, method, others=others, seed=material.config.seed, **settings)
    return found.scores().top(material.k, name=name)


def _refuse_others(out: Path) -> None:
    """Refuse a folder that holds something else than an interrupted search for neurons.

    Raises:
        RunError: It does, or it is a file.
    """
    if out.exists() and not out.is_dir():
        raise RunError("this is a file, not a folder", str(out), "Choose another one with --out")
    if not (out / WORK).is_dir() and out.is_dir() and any(out.iterdir()):
        raise RunError(
            "this folder holds something already", str(out), "Choose a new one with --out"
        )


def _known(name: str, material: Material) -> str:
    key = RELATION_ALIASES.get(name, name)
    if key in material.skipped:
        raise StudyError(f"no neurons of {key} were found: {material.skipped[key]}")
    return key if key in material.names else name
