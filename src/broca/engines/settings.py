"""How a run's work is spread; none of it changes a result."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from broca.errors import EngineError

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_LEAST, _MOST = 2**20, 2**60  # bytes; no system knows amounts beyond


@dataclass(frozen=True)
class EngineSettings:
    """The table `[engine]` of a recipe.

    Attributes:
        kind: "local", this process; or "ray", the workers of a Ray cluster.
        workers: Workers of "ray"; by default one per GPU, or one per core where there is none.
        gpus_per_worker: GPUs of each worker; by default 1 where the cluster has any.
        threads: Threads of each worker on a CPU.
        address: Of a cluster: "auto", "ray://host:port", "host:port"; one on this machine is
            started where none is given.
        max_memory: Most memory of each process, such as "8G", for weights and batches: of each of
            its GPUs, or of the processor where the model is there.

    Raises:
        EngineError: A number is out of its range, or the memory no amount.
    """

    kind: Literal["local", "ray"] = "local"
    workers: int | None = None
    gpus_per_worker: float | None = None
    threads: int = 1
    address: str | None = None
    max_memory: str | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise EngineError(f"{name} must be at least 1", f"{name} = {value}")
        if self.gpus_per_worker is not None and not self.gpus_per_worker >= 0:
            raise EngineError("gpus_per_worker is below 0", f"{self.gpus_per_worker}")
        rays = (self.workers, self.address, self.gpus_per_worker)
        if self.kind == "local" and any(value is not None for value in rays):
            raise EngineError(
                "workers, GPUs per worker and address belong to the engine 'ray'",
                mend="Add --engine ray, or let several processes --join one run folder",
            )
        _ = self.memory_bytes

    @property
    def memory_bytes(self) -> int | None:
        """The most memory, in bytes.

        Raises:
            EngineError: It is no amount.
        """
        if self.max_memory is None:
            return None
        found = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?)(i?b)?\s*", self.max_memory.lower())
        try:
            amount = float(found[1]) * _UNITS[found[2]] if found else 0
        except ValueError:
            amount = 0
        if not _LEAST <= amount <= _MOST:
            raise EngineError(
                "this is no amount of memory a model can work in",
                repr(self.max_memory),
                "Write for example 8G or 800M",
            )
        return int(amount)
