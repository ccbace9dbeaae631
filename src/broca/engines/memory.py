"""When memory runs out: half the batch, and on with the run.

Results do not change beyond the rounding of batches of another size (1e-5 in float32).
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from broca.errors import EngineError
from broca.progress import tell

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )


def free_memory() -> None:
    """Give back what nothing refers to any longer."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def available_bytes(device: torch.device) -> int:
    """Bytes of a GPU that this process may still take: free ones, and those torch keeps unused."""
    import torch

    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


@dataclass
class BatchLimit:
    """What memory has allowed so far; remembered for the run.

    Attributes:
        rows: Rows per pass at most, None while memory has sufficed.
        shares: Kind of rows whose number follows from the memory there is -> share of them that
            is taken.
        say: Told once, in a sentence, that memory ran out.
    """

    rows: int | None = None
    shares: dict[str, float] = field(default_factory=dict)
    say: Callable[[str], None] = tell
    _said: bool = field(default=False, init=False)

    def compute(self, function: Callable[[Item], Result], item: Item) -> Result:
        """Call a function, with half of its `batch_size` after every shortage of memory.

        What shrinks by itself inside of it (:func:`current_limit`) is remembered here as well.

        Args:
            function: A dataclass with a field `batch_size`; others are called as they are.
            item: Its argument.

        Raises:
            EngineError: If memory runs out with a single row, or with no batch to halve.
        """
        token = _current.set(self)
        try:
            return self._shrinking(function, item)
        finally:
            _current.reset(token)

    def _shrinking(self, function: Callable[[Item], Result], item: Item) -> Result:
        while True:
            limited = self._limited(function)
            try:
                return limited(item)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                rows = getattr(limited, "batch_size", None)
                if rows is None or rows <= 1:
                    raise EngineError(
                        "Memory runs out in a piece of work that cannot be cut smaller"
                        if rows is None
                        else "Memory runs out with a single prompt at a time",
                        mend="Use shorter prompts, a smaller dtype or model, or more memory",
                    ) from error
            # Outside of the handler, where the error no longer holds the tensors of its frames.
            self.rows = rows // 2
            self._say(rows)
            free_memory()

    def _limited(self, function: Callable[[Item], Result]) -> Callable[[Item], Result]:
        given: Any = function
        rows = getattr(function, "batch_size", None)
        if self.rows is None or rows is None or rows <= self.rows:
            return function
        return replace(given, batch_size=self.rows)

    def allowed(self, kind: str, rows: int) -> int:
        """How many rows of a kind are tried, where so many would fit by reckoning."""
        return max(1, round(rows * self.shares.get(kind, 1.0)))

    def halve(self, kind: str, rows: int) -> int:
        """Half of some rows that were too many; the same share from now on of all of their kind."""
        half = max(1, rows // 2)
        self.shares[kind] = self.shares.get(kind, 1.0) * half / rows
        self._say(rows)
        return half

    def _say(self, rows: int) -> None:
        if not self._said:
            self._said = True
            self.say(f"Memory ran out at {rows} rows a pass; going on with fewer for this run.")


_current: ContextVar[BatchLimit | None] = ContextVar("limit", default=None)


def current_limit() -> BatchLimit:
    """What memory has allowed the run that is computing; a new one outside of runs."""
    return _current.get() or BatchLimit()
