"""A run folder: everything one run was asked to do, did and found (docs/files.md)."""

from __future__ import annotations

import shutil
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from broca.errors import RunError
from broca.store import finishing
from broca.store.config import begun_with, is_run, read_config, refuse_differing, refuse_other
from broca.store.damage import (
    CONFIG,
    FORMAT,
    MANIFEST,
    Damage,
    find_damage,
    is_untouched,
    mend,
    tidy,
)
from broca.store.environment import (
    ENVIRONMENT,
    await_environment,
    refuse_versions,
    refuse_weights,
    tell_of_rounding,
    with_earlier,
)
from broca.store.files import TEMPORARY_MARK, read_json, replacing, write_json, write_text
from broca.store.joining import CLAIMS, LOGS, PARTS, forget_joined, note_joined
from broca.store.lock import FolderBusyError, FolderLock
from broca.store.names import file_name, name_of
from broca.store.rows import RowFolder
from broca.store.summary import flat_summary
from broca.store.toml import write_toml

PROMPTS = "prompts.json"
SETS = "sets"
SUMMARY = "summary.json"
JOIN_SECONDS = 30.0  # that a joining process waits for the settings of the run


class FinishedError(RunError):
    """The run is finished and whole."""


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
        mended: What was damaged and is computed again.
        joined: Whether another process began it and writes all but rows and attributions.
    """

    joined = False

    def __init__(
        self,
        path: Path,
        config: dict[str, Any],
        lock: FolderLock | None,
        mended: Sequence[Damage] = (),
    ) -> None:
        self.path = path
        self.mended = tuple(mended)
        self.config = config
        self.rows = RowFolder(path / "rows")
        self._lock = lock

    # -- beginning --------------------------------------------------------------------------

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any]) -> Self:
        """Begin a new run in a folder that is empty or does not exist yet.

        A folder in which a run was begun and nothing computed belongs to nobody.

        Raises:
            RunError: The folder holds a run or something else, or cannot be written.
        """
        path = Path(path)
        if is_run(path) and not is_untouched(path):
            cls._refuse_finished(path)
            raise RunError(
                "an unfinished run is in this folder",
                where=str(path),
                mend="Resume it, or choose another folder with --out",
            )
        if not is_run(path):
            refuse_other(path)
        lock = FolderLock.acquire(path)
        tidy(path)
        shutil.rmtree(path / PARTS, ignore_errors=True)
        (path / ENVIRONMENT).unlink(missing_ok=True)  # of a run that computed nothing
        write_text(path / CONFIG, write_toml({"format": FORMAT, **config}))
        return cls(path, read_config(path), lock)

    @classmethod
    def resume(cls, path: str | Path, config: Mapping[str, Any]) -> Self:
        """Go on with an unfinished or damaged run, whose settings must be the given ones.

        What is damaged is deleted, so that it is computed again; `mended` tells.

        Raises:
            RunError: There is no run, it is finished, another process writes it, or its settings
                differ.
        """
        path = Path(path)
        given = tomllib.loads(write_toml(config))
        stored = begun_with(path)
        ended = (path / MANIFEST).exists()
        if ended:
            cls._refuse_whole(path)
        refuse_differing(path, stored, given)
        lock = FolderLock.acquire(path)
        try:
            if not ended:  # when it was looked at: whoever held the lock may have finished it
                cls._refuse_whole(path)
            mended = mend(path)
            write_text(path / CONFIG, write_toml({"format": FORMAT, **stored}))
        except BaseException:
            lock.release()
            raise
        return cls(path, stored, lock, mended)

    @classmethod
    def begin(cls, path: str | Path, config: Mapping[str, Any]) -> Self:
        """Resume the run in `path` if there is one, else create it; see both for the errors."""
        begun = is_run(Path(path)) and not is_untouched(Path(path))
        return cls.resume(path, config) if begun else cls.create(path, config)

    @classmethod
    def join(cls, path: str | Path, config: Mapping[str, Any]) -> Self:
        """Take part in a run that another process has begun; begin or resume it if none has.

        A finished run that is whole is given as one that has been joined: there is nothing left to
        do. What is damaged of one is computed again, as by `resume`.

        Raises:
            RunError: The settings differ, or the folder cannot be used.
        """
        path = Path(path)
        try:
            return cls.begin(path, config)
        except FinishedError:
            pass
        except FolderBusyError:
            deadline = time.monotonic() + JOIN_SECONDS
            while not is_run(path) and time.monotonic() < deadline:
                time.sleep(0.1)  # its first file is being written
        stored = read_config(path)
        refuse_differing(path, stored, tomllib.loads(write_toml(config)))
        folder = cls(path, stored, None)
        folder.joined = True
        return folder

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read a run, finished or not; nothing is changed.

        Raises:
            RunError: `path` is no run folder.
        """
        return cls(Path(path), read_config(Path(path)), None)

    @classmethod
    def _refuse_whole(cls, path: Path) -> None:
        if (path / MANIFEST).exists() and not find_damage(path):
            cls._refuse_finished(path)

    @staticmethod
    def _refuse_finished(path: Path) -> None:
        if (path / MANIFEST).exists():
            raise FinishedError(
                "the run in this folder is finished",
                where=str(path),
                mend="Look at it with `broca report`, or choose another folder with --out",
            )

    # -- writing ----------------------------------------------------------------------------

    def write_environment(
        self, environment: Mapping[str, Any], *, accept_versions: bool = False
    ) -> None:
        """Store what the run depends on beside its settings: versions, weights, device, seeds.

        When a resumed run finds another environment, the earlier ones stay under "earlier"; other
        devices or threads, which may change figures by rounding, are told.
        A process that joined waits until the one that began the run has stored its own, and takes
        its place if it is gone.

        Args:
            environment: Plain values; `versions` are those of packages.
            accept_versions: Go on with rows that other versions of broca, torch or transformers
                have computed.

        Raises:
            RunError: The weights ("fingerprint") are not those the run was begun with, or rows
                were computed by other versions and this is not accepted; or nothing is
                stored.
        """
        now = dict(environment)
        if self.joined:
            self._lock = await_environment(self.path)
            self.joined = self._lock is None
        known = self.environment if (self.path / ENVIRONMENT).exists() else None
        mixing = accept_versions or (not self.joined and is_untouched(self.path))
        if known is not None:
            refuse_weights(self.path, known, now)
            if not mixing:
                refuse_versions(self.path, known, now)
            tell_of_rounding(known, now)
        if self.joined:
            note_joined(self.path, now)
        else:
            self.write_json(ENVIRONMENT, with_earlier(known, now))

    def forget_joined(self) -> None:
        """Take away what processes noted that joined as the run was being finished."""
        forget_joined(self.path)

    def save_set(self, neuron_set: Saveable, name: str | None = None) -> Path:
        """Store a neuron set as `sets/<name>.json`, its name as `broca.store.names` writes it.

        Raises:
            RunError: The name is empty, or the set cannot be written.
        """
        path = self.set_path(neuron_set.name if name is None else name)
        if self.joined:  # the process that began the run writes it
            return path
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

    def append_rows(self, rows: Iterable[Mapping[str, Any]], finished: Iterable[str]) -> None:
        """Store rows of finished conditions, unless the run is finished and has them.

        A process that joined and was silent may come when another has computed its work and
        finished the run.

        Args:
            rows: All rows of these conditions.
            finished: Their keys.
        """
        if self.finished:
            return
        finishing.withdraw(self.path, self.rows.append(rows, finished))

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
        finishing.finish(self.path, self.rows)
        self.close()

    # -- reading ----------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether the run is complete."""
        return (self.path / MANIFEST).exists()

    def is_abandoned(self) -> bool:
        """Whether the run is not finished and no process writes it."""
        try:
            FolderLock.acquire(self.path).release()
        except FolderBusyError:
            return False
        return not self.finished

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
    def claims_path(self) -> Path:
        """Where processes that share the run claim their work."""
        return self.path / CLAIMS

    @property
    def parts_path(self) -> Path:
        """Parts of results that workers leave there for others; gone when the run is finished."""
        return self.path / PARTS

    @property
    def logs_path(self) -> Path:
        """Logs of workers; no part of the manifest."""
        return self.path / LOGS

    @property
    def responses_path(self) -> Path:
        """The folder of recorded responses; it exists once something is recorded."""
        return self.path / "responses"

    def check(self) -> list[str]:
        """Names of files that are missing or changed since the manifest; empty when all is well.

        Raises:
            RunError: The run is not finished.
        """
        if not self.finished:
            raise RunError("the run is not finished", str(self.path))
        return [damage.name for damage in find_damage(self.path)]

    def require_whole(self) -> None:
        """Refuse a run that is not finished, or damaged.

        Raises:
            RunError: With what is damaged and what mends it.
        """
        finishing.require_whole(self.path)

    def remove(self) -> None:
        """Delete a finished run: the files its manifest names, and nothing else.

        Raises:
            RunError: It is not finished, or the folder holds something else.
        """
        finishing.remove(self.path)

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
