"""What a page may use: the model, the sets, facts and prompts that the server was started with.

The model's thread, the one that draws the page and those that answer at once read the same sets.
Only :meth:`Material.keep` adds to them meanwhile, one set at a time; whoever goes through them goes
through a list of its own.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from broca.errors import PlayError, RunError
from broca.facts import Relations, load_relations
from broca.facts.seeding import stable_random
from broca.facts.shipped import facts_for
from broca.model import LanguageModel
from broca.neurons import NeuronSet, WeightsDifferWarning
from broca.play.before import Before
from broca.prompts import Prompt, render_fact_prompts, render_question_prompts
from broca.questions import load_questions
from broca.responses import Responses, record_responses
from broca.run.served import check_model, query_sets, query_tables, run_prompts
from broca.scores import QuerySets
from broca.store import file_name, reads_as_run, set_files

T = TypeVar("T")

MADE = "made"
"""Folder of a run in which sets made on the page are kept, and the beginning of their names."""

_NEWEST = 32  # changes kept
_REFERENCE = 64  # prompts that means are taken over


@dataclass
class Material:
    """Everything a page may name.

    Attributes:
        model: The model under study.
        sets: Neuron sets by name.
        queries: Query sets of the run, by the file they stand in.
        relations: Facts to ask for.
        prompts: Prompts of the run.
        questions: Prompts of the questions the server was started with.
        run: The run folder, or folder of sets.
        out: Where sets made on the page are kept; None where there is no such place.
        files: Where each set was read from.
        notices: What a reader must know, a sentence each.
        dtype: Of the weights as they were loaded: a search may cast them for a while.
    """

    model: LanguageModel
    sets: dict[str, NeuronSet] = field(default_factory=dict)
    queries: dict[str, QuerySets] = field(default_factory=dict)
    relations: Relations = field(default_factory=lambda: Relations([]))
    prompts: list[Prompt] = field(default_factory=list)
    questions: list[Prompt] = field(default_factory=list)
    run: Path | None = None
    out: Path | None = None
    files: dict[str, Path] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    dtype: str = field(init=False)
    _keeping: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self.dtype = str(self.model.dtype).removeprefix("torch.")
        _ = self.model.identity  # a hash of all weights: not while a page waits, or they are cast

    @classmethod
    def load(
        cls,
        model: LanguageModel,
        *,
        run: Path | None = None,
        sets: Sequence[Path] = (),
        facts: str | None = "auto",
        questions: str | None = None,
        out: Path | None = None,
    ) -> Material:
        """Read all of it.

        Args:
            model: The model under study.
            run: Run folder, or folder of neuron sets.
            sets: Files of neuron sets.
            facts: Facts to ask for; `auto` means atlas's for the embedded model, else LRE's.
            questions: Questions to ask.
            out: Folder of the sets made on the page; `made` in the run by default.

        Raises:
            BrocaError: Something cannot be read, or belongs to a model of another shape.
        """
        is_run = run is not None and reads_as_run(run)
        kept = out if out is not None else (run / MADE if run is not None and is_run else None)
        found = cls(model, run=run, out=kept)
        with warnings.catch_warnings(record=True) as differing:
            warnings.simplefilter("always", WeightsDifferWarning)
            for name, path in _files(run, sets, kept).items():
                found._add(name, path)
            if run is not None and is_run:
                found._read_run(run)
        told = [w for w in differing if issubclass(w.category, WeightsDifferWarning)]
        if told:
            found.notices.append(
                f"{len(told)} of the sets were found in other weights of the same shape."
            )
        if facts is not None:
            source = facts_for(facts, embedded=model.is_embedded)
            found.relations = load_relations(source)
        if questions is not None:
            found.questions += render_question_prompts(
                load_questions(questions), n_prompts=1, chat=model.chat
            )
        return found

    def _add(self, name: str, path: Path) -> None:
        """Read one more set.

        Raises:
            NeuronError: It is malformed, or belongs to a model of another shape.
        """
        neurons = NeuronSet.load(path)
        check_model(neurons.identity, self.model, path)
        # told once, here: applied to this model it is one of its own
        self.sets[name] = replace(neurons, identity=self.model.identity)
        self.files[name] = path

    def _read_run(self, run: Path) -> None:
        self.prompts += run_prompts(run) if (run / "prompts.json").exists() else []
        for path in query_tables(run):
            sets = query_sets(self.model, path)
            if sets is not None:
                self.queries[path.stem] = replace(sets, identity=self.model.identity)

    def names(self) -> Iterator[tuple[str, int, str]]:
        """Every set's name, number of neurons and method.

        A query's set by the first method of its file is called `file/query`, those by the others
        `file/query/method`.
        """
        for name, neurons in list(self.sets.items()):
            yield name, len(neurons), neurons.method
        for file, sets in self.queries.items():
            for method in sets.methods:
                behind = "" if method == sets.methods[0] else f"/{method}"
                for query, size in sets.counts(method).items():
                    if size:
                        yield f"{file}/{query}{behind}", size, method

    def find_set(self, name: str) -> NeuronSet:
        """The set of this name.

        Raises:
            PlayError: There is none.
        """
        if name in self.sets:
            return self.sets[name]
        file, _, rest = name.partition("/")
        if file in self.queries:
            sets = self.queries[file]
            query, _, method = rest.rpartition("/")
            for one, by in ((rest, sets.methods[0]), (query, method)):
                if one in sets.rankings.get(by, {}):
                    return replace(sets.neurons(one, by), name=name)
        raise PlayError("there is no such set here", name, "Choose one of the list")

    def keep(self, neurons: NeuronSet) -> str:
        """Write a set made on the page as an ordinary neuron set; the name it has from now on.

        Raises:
            PlayError: There is no folder for it, or a set of this name is there already.
            RunError: It cannot be written.
        """
        with self._keeping:
            path = self._claimed(neurons.name)
            try:
                neurons.save(path)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
            name = f"{MADE}/{neurons.name}"
            self._add(name, path)
        return name

    def _claimed(self, name: str) -> Path:
        """A new, empty file for a set: whoever else wants this name, here or in another server,
        finds it taken.
        """
        if self.out is None:
            raise PlayError(
                "the server was started without a run, so there is no place to keep sets",
                mend="Start it with --run or --out, or download the set",
            )
        path = self.out / file_name(name, ".json")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritten(path, error) from error
        try:
            path.open("x").close()
        except FileExistsError:
            raise PlayError("there is a set of this name already", name, "Choose another") from None
        except OSError as error:
            raise _unwritten(path, error) from error
        return path

    @cached_property
    def reference(self) -> list[Prompt]:
        """Prompts that means are taken over and neurons are looked at in: a sample by seed."""
        stored, random = [*self.prompts, *self.questions], stable_random(0, "play")
        if stored:
            return random.sample(stored, min(_REFERENCE, len(stored)))
        facts = [(one, fact) for one in self.relations.values() for fact in one.facts]
        drawn = random.sample(facts, min(_REFERENCE, len(facts)))
        alone = (replace(relation, facts=(fact,)) for relation, fact in drawn)
        return [prompt for one in alone for prompt in render_fact_prompts(one)]

    def others(self, asked: str) -> list[Prompt]:
        """Reference prompts of another text than the one that is asked."""
        return [prompt for prompt in self.reference if prompt.text != asked]

    def mean_prompts(self, asked: str) -> list[Prompt]:
        """Prompts that means are taken over: others than the one that is asked.

        Raises:
            PlayError: There are none.
        """
        others = self.others(asked)
        if not others:
            only = "this prompt is the only one" if self.reference else "there are none"
            raise PlayError(
                f"a mean is taken over other prompts and {only}",
                mend="Start the server with --facts, --questions or a --run with more prompts",
            )
        return others

    def means(self, neurons: NeuronSet, asked: str = "") -> tuple[float, ...]:
        """Each neuron's mean at the last token of the reference prompts, in the set's order.

        Args:
            neurons: The neurons.
            asked: The prompt as the model reads it: it is left out.

        Raises:
            PlayError: There are no prompts to take them from.
        """
        left = asked if len(self.mean_prompts(asked)) < len(self.reference) else ""
        found = np.zeros(len(neurons))
        for site, layer in neurons.counts():
            ranks = neurons.where(site, layer)
            means = self.kept(("means", site, left), lambda s=site: self._site_means(s, left))
            found[ranks] = means[layer][neurons.indices[ranks]]
        return tuple(found.tolist())

    def _site_means(self, site: str, left: str) -> Mapping[int, np.ndarray]:
        """Layer -> means of a site's neurons, one text left out, [neuron]."""
        if site not in self._responses:
            whole = record_responses(self.model, self.reference, (site,), pooling="last")
            self._responses[site] = whole
        texts = [prompt.text for prompt in self.reference]
        some = self._responses[site].subset([n for n, text in enumerate(texts) if text != left])
        return {layer: some.block_means(site, layer) for _, layer, _ in some.index.blocks()}

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made under a key, made if it is not among the newest ones."""
        if key not in self._newest:
            made = make()
            if len(self._newest) >= _NEWEST:
                self._newest.pop(next(iter(self._newest)))
            self._newest[key] = made
        return self._newest[key]

    @cached_property
    def before(self) -> Before:
        """The prompt that was answered last."""
        return Before()

    @cached_property
    def _newest(self) -> dict[Hashable, Any]:
        return {}

    @cached_property
    def _responses(self) -> dict[str, Responses]:
        return {}


def _unwritten(path: Path, error: OSError) -> RunError:
    return RunError("Cannot write a neuron set", str(path), str(error))


def _files(run: Path | None, sets: Sequence[Path], made: Path | None) -> dict[str, Path]:
    """Set files by name; those given one by one keep their file's name.

    Raises:
        PlayError: A file is not there, or two would have one name.
        RunError: The run is none.
    """
    found: dict[str, Path] = {} if run is None else dict(set_files(run))
    if made is not None and any(made.glob("**/*.json")):  # there may be none yet
        found |= {f"{MADE}/{name}": path for name, path in set_files(made).items()}
    for path in sets:
        if not path.exists():
            raise PlayError("there is no such neuron set", str(path), "Give a .json file or folder")
        for name, file in set_files(path).items():
            if name in found and found[name] != file:
                raise PlayError("two sets have one name", f"{found[name]}, {file}", "Rename one")
            found[name] = file
    return found
