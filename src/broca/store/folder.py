"""A run folder: everything one run was asked to do, did and found (docs/files.md)."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from broca.errors import RunError
from broca.store.files import (
    TEMPORARY_MARK,
    read_json,
    replacing,
    sha256_of,
    sweep,
    write_json,
    write_text,
)
from broca.store.lock import FolderLock
from broca.store.names import file_name, name_of
from broca.store.rows import RowFolder
from broca.store.summary import flat_summary
from broca.store.toml import write_toml

FORMAT = "broca-run/1"
CONFIG, ENVIRONMENT, PROMPTS = "config.toml", "environment.json", "prompts.json"
SETS = "sets"
SUMMARY, MANIFEST, REPORT = "summary.json", "manifest.json", "report.html"


class Saveable(Protocol):
    """What the store needs to know of a neuron set."""

    @property
    def name(self) -> str: ...

    def save(self, path: Path, /) -> object: ...


class RunFolder:
    """One run on disk. Make one with `create`, `resume` or `begin`; read any with `open`.

    Attributes:
        path: The folder.
        config: The settings it was begun with, as plain values.
        rows: Its rows.
    """

    def __init__(self, path: Path, config: dict[str, Any], lock: FolderLock | None) -> None:
        self.path = path
        self.config = config
        self.rows = RowFolder(path / "rows")
        self._lock = lock

    # -- beginning --------------------------------------------------------------------------

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any]) -> Self:
        """Begin a new run in a folder that is empty or does not exist yet.

        Raises:
            RunError: The folder holds a run or something else, or cannot be written.
        """
        path = Path(path)
        if is_run(path):
            cls._refuse_finished(path)
            raise RunError(
                "an unfinished run is in this folder",
                where=str(path),
                mend="Resume it, or choose another folder with --out",
            )
        _refuse_other(path)
        lock = FolderLock.acquire(path)
        sweep(path)
        write_text(path / CONFIG, write_toml({"format": FORMAT, **config}))
        return cls(path, _read_config(path), lock)

    @classmethod
    def resume(cls, path: str | Path, config: Mapping[str, Any]) -> Self:
        """Go on with an unfinished run, whose settings must be the given ones.

        Raises:
            RunError: There is no run, it is finished, another process writes it, or its settings
                differ.
        """
        path = Path(path)
        stored = _read_config(path)
        cls._refuse_finished(path)
        given = tomllib.loads(write_toml(config))
        differing = _differences(stored, given)
        if differing:
            raise RunError(
                f"the run in this folder has other settings: {'; '.join(differing[:5])}",
                where=str(path),
                mend="Repeat the command it was begun with, or choose another folder with --out",
            )
        lock = FolderLock.acquire(path)
        sweep(path)
        return cls(path, stored, lock)

    @classmethod
    def begin(cls, path: str | Path, config: Mapping[str, Any]) -> Self:
        """Resume the run in `path` if there is one, else create it; see both for the errors."""
        return cls.resume(path, config) if is_run(Path(path)) else cls.create(path, config)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read a run, finished or not; nothing is changed.

        Raises:
            RunError: `path` is no run folder.
        """
        return cls(Path(path), _read_config(Path(path)), None)

    @staticmethod
    def _refuse_finished(path: Path) -> None:
        if (path / MANIFEST).exists():
            raise RunError(
                "the run in this folder is finished",
                where=str(path),
                mend="Look at it with `broca report`, or choose another folder with --out",
            )

    # -- writing ----------------------------------------------------------------------------

    def write_environment(self, environment: Mapping[str, Any]) -> None:
        """Store what the run depends on beside its settings: versions, weights, device, seeds.

        When a resumed run finds another environment, the earlier ones stay under "earlier".

        Raises:
            RunError: The weights ("fingerprint") are not those the run was begun with.
        """
        now = dict(environment)
        earlier: list[dict[str, Any]] = []
        if (self.path / ENVIRONMENT).exists():
            before = self.environment
            earlier = before.pop("earlier", [])
            if before.get("fingerprint") != now.get("fingerprint"):
                raise RunError(
                    "this run was begun with other weights",
                    where=str(self.path),
                    mend="Use the model it was begun with, or choose another folder with --out",
                )
            if before != now and before not in earlier:
                earlier = [*earlier, before]
        self.write_json(ENVIRONMENT, {**now, "earlier": earlier} if earlier else now)

    def save_set(self, neuron_set: Saveable, name: str | None = None) -> Path:
        """Store a neuron set as `sets/<name>.json`, its name as `broca.store.names` writes it.

        Raises:
            RunError: The name is empty, or the set cannot be written.
        """
        path = self.set_path(neuron_set.name if name is None else name)
        with replacing(path) as beside:
            neuron_set.save(beside)
        return path

    def set_path(self, name: str) -> Path:
        """Where the neuron set of this name is stored, or will be."""
        return self.path / SETS / file_name(name, ".json")

    def add_prompts(self, prompts: Iterable[Any]) -> None:
        """Store prompts (dataclasses or mappings with an "id") beside those already stored."""
        known = self.prompts() if (self.path / PROMPTS).exists() else {}
        for prompt in prompts:
            plain = asdict(prompt) if is_dataclass(prompt) else dict(prompt)  # pyright: ignore
            left_out = ("id", "objects")  # the objects of a relation would repeat in each prompt
            known[plain["id"]] = {k: value for k, value in plain.items() if k not in left_out}
        self.write_json(PROMPTS, known)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Store the figures of the run; `flat_summary` says what they may be."""
        self.write_json(SUMMARY, flat_summary(summary))

    def write_json(self, name: str, value: Any) -> None:
        """Store plain values as JSON under a name inside the folder."""
        write_json(self.path / name, value)

    def write_text(self, name: str, text: str) -> None:
        """Store a text, such as the report, under a name inside the folder."""
        write_text(self.path / name, text)

    def finish(self) -> None:
        """Put the rows into one part and write the manifest: from now on the run is complete.

        The manifest lists every file with its size and hash; responses, which may be tens of
        gigabytes and can be recorded again, with their size only.
        """
        self.rows.compact()
        sweep(self.path)
        files = {}
        for file in sorted(self._files()):
            name = file.relative_to(self.path).as_posix()
            entry: dict[str, Any] = {"bytes": file.stat().st_size}
            if not name.startswith("responses/"):
                entry["sha256"] = sha256_of(file)
            if name.startswith("rows/"):
                entry["rows"] = RowFolder(file.parent).count()
            files[name] = entry
        manifest = {"format": FORMAT, "files": files, "rows": self.rows.count()}
        write_json(self.path / MANIFEST, manifest)
        self.close()

    # -- reading ----------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether the run is complete."""
        return (self.path / MANIFEST).exists()

    @property
    def environment(self) -> dict[str, Any]:
        """What `write_environment` stored."""
        return read_json(self.path / ENVIRONMENT)

    @property
    def summary(self) -> dict[str, float | int | None]:
        """What `write_summary` stored."""
        return read_json(self.path / SUMMARY)

    def prompts(self) -> dict[str, dict[str, Any]]:
        """Stored prompts by id."""
        return read_json(self.path / PROMPTS)

    def read_json(self, name: str) -> Any:
        """What `write_json` stored under this name."""
        return read_json(self.path / name)

    def set_names(self) -> list[str]:
        """Names of the stored neuron sets, sorted."""
        folder = self.path / SETS
        found = (file for file in folder.rglob("*.json") if TEMPORARY_MARK not in file.name)
        return sorted(name_of(file.relative_to(folder), ".json") for file in found)

    @property
    def responses_path(self) -> Path:
        """The folder of recorded responses; it exists once something is recorded."""
        return self.path / "responses"

    def check(self) -> list[str]:
        """Names of files that are missing or changed since the manifest; empty when all is well.

        Raises:
            RunError: The run is not finished.
        """
        listed = read_json(self.path / MANIFEST)["files"]
        return [name for name, entry in listed.items() if not self._same(name, entry)]

    def _same(self, name: str, entry: Mapping[str, Any]) -> bool:
        file = self.path / name
        if not file.is_file():
            return False
        if name == REPORT:  # may be drawn anew from what is stored
            return True
        if file.stat().st_size != entry["bytes"]:
            return False
        return "sha256" not in entry or sha256_of(file) == entry["sha256"]

    def _files(self) -> Iterable[Path]:
        for file in self.path.rglob("*"):
            hidden = file.relative_to(self.path).parts[-1].startswith(".")
            if file.is_file() and not hidden and file.name != MANIFEST:
                yield file

    def remove(self) -> None:
        """Delete a finished run: the files its manifest names, and nothing else.

        Raises:
            RunError: It is not finished, or the folder holds something else.
        """
        listed = read_json(self.path / MANIFEST)["files"]
        others = [
            file for file in self._files() if file.relative_to(self.path).as_posix() not in listed
        ]
        if others:
            raise RunError(
                f"this folder holds something that the run did not write ({others[0].name})",
                where=str(self.path),
                mend="Move it elsewhere, or choose another folder with --out",
            )
        shutil.rmtree(self.path)

    # -- ending -----------------------------------------------------------------------------

    def close(self) -> None:
        """Let other processes write the folder again."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_run(path: Path) -> bool:
    """Whether `path` is a run folder, finished or not."""
    try:
        return tomllib.loads((path / CONFIG).read_text("utf-8")).get("format") == FORMAT
    except (OSError, ValueError):
        return False


def _read_config(path: Path) -> dict[str, Any]:
    if not is_run(path):
        raise RunError(
            "this is no run folder",
            where=str(path),
            mend=f"A run folder has a {CONFIG} that begins with: format = {FORMAT!r}",
        )
    config = tomllib.loads((path / CONFIG).read_text("utf-8"))
    del config["format"]
    return config


def _refuse_other(path: Path) -> None:
    """Refuse a path that is a file, or a folder in which someone else keeps things."""
    try:
        names = [entry.name for entry in path.iterdir()] if path.exists() else []
    except OSError as error:
        raise RunError(
            f"this folder cannot be used: {error.strerror}",
            where=str(path),
            mend="Choose another folder with --out",
        ) from error
    others = [name for name in names if TEMPORARY_MARK not in name and name != FolderLock.NAME]
    if others:
        raise RunError(
            f"this folder holds something else ({sorted(others)[0]}, …)",
            where=str(path),
            mend="Choose an empty or new folder with --out",
        )


def _differences(stored: Mapping[str, Any], given: Mapping[str, Any], at: str = "") -> list[str]:
    """What differs between two nested settings, one text per setting."""
    found = []
    for key in sorted(stored.keys() | given.keys()):
        old, new = stored.get(key), given.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _differences(old, new, f"{at}{key}.")
        elif old != new:
            found.append(f"{at}{key} was {old!r}, now {new!r}")
    return found
