"""A recipe made into what is to be run: studies, model, settings of each family.

A recipe names `studies` and a `model`; every other value is a setting of the studies' family. With
studies of several families, each family's settings stand in a table of its name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broca.engines import EngineSettings
from broca.errors import RecipeError, known_names
from broca.facts.shipped import SHIPPED
from broca.recipes import build_config, config_values
from broca.settings import check_settings
from broca.studies import load_family
from broca.studies.study import Study


@dataclass(frozen=True)
class ModelSettings:
    """Which model is studied, and how it is loaded: arguments of `from_pretrained`.

    Attributes:
        model: Name on the hub, folder, .gguf file, or "atlas".
        revision: Branch, tag or commit on the hub.
        dtype: As in transformers.
        device_map: As in transformers; by default on the GPUs, if there are any (atlas is not).
        attn_implementation: As in transformers.
        trust_remote_code: Run code that comes with the model.
        adapter: Folder of an adapter (LoRA) put on the model.
        merge_adapter: Merge adapters into the weights in memory; false keeps them beside.
    """

    model: str = "atlas"
    revision: str | None = None
    dtype: str = "auto"
    device_map: str | None = None
    attn_implementation: str | None = None
    trust_remote_code: bool = False
    adapter: str | None = None
    merge_adapter: bool = True

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def on_gpus(self) -> bool:
        """Whether the model will be on GPUs."""
        return self._place() not in (None, "cpu")

    def load(self, *, gpus: bool = True):
        """The model as a :class:`broca.model.LanguageModel`.

        Args:
            gpus: Whether GPUs may be taken where no place is named.
        """
        from broca.model import LanguageModel

        options = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        options["device_map"] = self._place(gpus=gpus)
        return LanguageModel.from_pretrained(options.pop("model"), **options)

    def _place(self, *, gpus: bool = True) -> str | None:
        from broca.model.loading import usual_place

        return self.device_map or (usual_place(self.model) if gpus else None)


@dataclass(frozen=True)
class Job:
    """What is to be run.

    Attributes:
        studies: Their names, in order.
        model: The model under study.
        settings: Family -> its settings.
        title: What the report is called.
        engine: Where it is computed. No part of `as_config`: it changes no result.
    """

    studies: tuple[str, ...]
    model: ModelSettings
    settings: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    engine: EngineSettings = field(default_factory=EngineSettings)

    def studies_of(self, family: str) -> list[Study]:
        """The studies of one family, in order."""
        known = load_family(family).studies
        return [known[name] for name in self.studies if name.partition(".")[0] == family]

    def check(self, *, embedded: bool | None = None) -> None:
        """Refuse, before the model is loaded, all that shows without it.

        Args:
            embedded: Whether the model is the embedded one; by default as its name says.

        Raises:
            BrocaError: Facts, questions or a study's files cannot be used.
        """
        known = self.model.model == "atlas" if embedded is None else embedded
        for name, settings in self.settings.items():
            load_family(name).check(settings, self.studies_of(name), embedded=known)

    def as_config(self) -> dict[str, Any]:
        """The job as a recipe with every default written out: the run's `config.toml`."""
        tables = {name: config_values(value) for name, value in self.settings.items()}
        flat = next(iter(tables.values())) if len(tables) == 1 else tables
        title = {"title": self.title} if self.title else {}
        return {**title, "studies": list(self.studies), **config_values(self.model), **flat}


@dataclass(frozen=True)
class _Head(ModelSettings):
    """What of a recipe belongs to no family."""

    studies: tuple[str, ...] = ()
    title: str = ""


_PATHS = ("model", "facts", "questions", "templates", "carriers", "prose", "frequencies")
_NAMES = ("auto", *SHIPPED)


def _anchored(settings: Any) -> Any:
    """Settings whose files and folders are named from the root, so that they hold anywhere."""
    given = {name: getattr(settings, name, None) for name in _PATHS}
    changed = {
        name: str(Path(value).absolute())
        for name, value in given.items()
        if isinstance(value, str) and value not in _NAMES and _is_there(value)
    }
    return dataclasses.replace(settings, **changed) if changed else settings


def _is_there(value: str) -> bool:
    try:
        return Path(value).exists()
    except (OSError, ValueError):  # a name no file can have
        return False


_OWN = {"studies", "title", "engine", *(f.name for f in dataclasses.fields(ModelSettings))}


def read_job(values: Mapping[str, Any], where: str = "recipe") -> Job:
    """Check a recipe's values and make them a job.

    Raises:
        RecipeError: No studies, an unknown study, an unknown or malformed setting.
    """

    own = {key: value for key, value in values.items() if key in _OWN}
    engine = _engine(own.pop("engine", {}), where)
    head = build_config(_Head, own, where)
    if not head.studies:
        raise RecipeError(
            "no studies are named", where, 'Write for example studies = ["relations.intra"]'
        )
    families = list(dict.fromkeys(name.partition(".")[0] for name in head.studies))
    for name in head.studies:
        known = load_family(name.partition(".")[0]).studies
        if name not in known:
            raise RecipeError(f"there is no study {name!r}", where, known_names(name, known))
    rest = {key: value for key, value in values.items() if key not in _OWN}
    # `relations` is both a family and a setting: only a table is the former.
    tabled = [name for name in families if isinstance(rest.get(name), Mapping)]
    tables = {name: dict(rest.pop(name)) if name in tabled else {} for name in families}
    if len(families) == 1:
        tables[families[0]] |= rest
    elif rest:
        raise RecipeError(
            f"the setting {next(iter(rest))!r} belongs to no table",
            where,
            f"With several families of studies, use [{'], ['.join(families)}]",
        )
    model = {f.name: getattr(head, f.name) for f in dataclasses.fields(ModelSettings)}
    settings = {
        name: _anchored(build_config(load_family(name).config, table, where))
        for name, table in tables.items()
    }
    return Job(head.studies, _anchored(ModelSettings(**model)), settings, head.title, engine)


def _engine(given: Any, where: str) -> EngineSettings:
    """The table `[engine]`, or `engine = "ray"` for short."""
    table = given if isinstance(given, Mapping) else {"kind": given}
    return build_config(EngineSettings, table, f"{where}, engine")
