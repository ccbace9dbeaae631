"""Relation neurons without the studies: from a model and facts to neuron sets."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broca.engines import LocalEngine
from broca.errors import RunError, StudyError
from broca.facts import RELATION_ALIASES, Relations, load_relations
from broca.facts.shipped import facts_for
from broca.locators import find_locator, locate
from broca.model import LanguageModel
from broca.neurons import NeuronSet
from broca.prompts import Prompt
from broca.run.bench import RunBench
from broca.run.environment import environment_of
from broca.run.job import Job
from broca.run.placing import placed
from broca.store import RunFolder, file_name
from broca.studies.relations import FAMILY, Material, RelationsConfig, prepare

WORK = ".finding"
EXPERTISE = "expertise"
_MOST_PROMPTS, _MOST_OTHERS = 24, 96  # that a locator reads of a relation, and of all others
_HELD_OUT = 4, 8  # prompts of a relation on which a mask's settings are chosen, at least and most


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
    accept_versions: bool = False,
) -> dict[Path, NeuronSet]:
    """Write a set file per relation; interrupted, the same call goes on.

    Args:
        job: Model and settings.
        out: Folder of the files, `<relation>.json` by `broca.store.file_name`.
        wanted: Only these relations' files; all relations still serve as negatives.
        tell: Told in which form the facts are asked, with a prompt; what to doubt; what was left
            out and why.
        method: How neurons are ranked: by average precision over the sites, or by a locator, see
            `broca.locate`; it ranks hidden neurons, as many as average precision takes.
        accept_versions: Go on with what an interrupted call computed with other versions of broca,
            torch or transformers.

    Raises:
        RunError: A file would be overwritten; an interrupted call computed with other weights, or
            with other versions and this is not accepted.
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
    with (
        RunFolder.begin(out / WORK, job.as_config()) as folder,
        placed(job, folder) as (model, engine),
    ):
        folder.write_environment(environment_of(model), accept_versions=accept_versions)
        bench = RunBench(model, folder, engine, config.batch_size, config.match)
        material = prepare(config, bench)
        chosen = list(material.names) if wanted is None else [_known(n, material) for n in wanted]
        sets = {name: material.sets[name] for name in chosen}
        if method != EXPERTISE:
            sets = _located(bench, material, chosen, method)
    if tell is not None:
        for found in FAMILY.introduce(material).values():
            for words in found.words:
                tell(words)
        for words in material.notes:  # such as sets that chance could have found
            tell(words)
        if material.skipped:
            left_out = "; ".join(f"{name}: {why}" for name, why in material.skipped.items())
            tell(f"Left out: {left_out}.")
    written = {}
    for name, neurons in sets.items():
        written[neurons.save(out / file_name(name, ".json"))] = neurons
    shutil.rmtree(out / WORK)
    return written


_Item = tuple[str, Sequence[Prompt], Sequence[Prompt], Sequence[Prompt]]


@dataclass(frozen=True)
class Locating:
    """A relation's neurons by a locator: the mean over its detection prompts.

    Learned masks are one for all of these; their learning rate is chosen on others, held out.
    """

    model: LanguageModel
    method: str
    k: int
    seed: int

    def __call__(self, item: _Item) -> NeuronSet:
        name, own, others, held_out = item
        learned = find_locator(self.method).learned
        settings = {"shared": True, "budget": self.k} if learned else {}
        found = locate(
            self.model,
            own,
            self.method,
            others=others,
            held_out=held_out,
            seed=self.seed,
            **settings,
        )
        return found.scores().top(self.k, name=name)


def _located(
    bench: RunBench, material: Material, chosen: Sequence[str], method: str
) -> dict[str, NeuronSet]:
    """Relations' neurons by a locator; those of an earlier sitting are read."""
    folder, kept = bench.folder, {f"{method} {name}": name for name in chosen}

    def stored(name: str) -> bool:
        return folder.set_path(name).exists()

    items = {name: _item(material, relation, method) for name, relation in kept.items()}
    left = [name for name in kept if not stored(name)]
    for (relation, *_), neurons in bench.engine.map(
        Locating(bench.model, method, material.k, material.config.seed),
        [items[name] for name in left],
        f"Locating: {method}",
        names=left,
        stored=stored,
    ):
        folder.save_set(neurons, f"{method} {relation}")
    return {relation: NeuronSet.load(folder.set_path(name)) for name, relation in kept.items()}


def _item(material: Material, name: str, method: str) -> _Item:
    """A relation with the prompts that a locator reads of it and of all others, and held out."""
    own, held_out = list(material.detection[name])[:_MOST_PROMPTS], []
    rest = [list(material.detection[n])[:_MOST_PROMPTS] for n in material.names if n != name]
    others = [prompt for listed in zip(*rest, strict=False) for prompt in listed][:_MOST_OTHERS]
    if find_locator(method).learned:  # which reads all of them in every step
        own, held_out = apart(material.detection[name])
        others = others[: len(own)]
    return name, own, others, held_out


def apart(prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts that a mask is learned on, and those held out: of other facts, a quarter at most.

    None are held out where a quarter are too few; the settings' defaults stand then.
    """
    least, most = _HELD_OUT
    n = min(most, len(prompts) // 4)
    facts = {prompt.fact for prompt in prompts[len(prompts) - n :]} if n >= least else set()
    held_out = [prompt for prompt in prompts if prompt.fact in facts]
    own = [prompt for prompt in prompts if prompt.fact not in facts]
    if len(own) < len(prompts) / 2:
        return list(prompts)[:_MOST_PROMPTS], []
    return own[:_MOST_PROMPTS], held_out[-most:]


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
