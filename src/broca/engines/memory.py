"""When memory runs out: half the batch, and on with the run.

Results do not change beyond the rounding of batches of another size (1e-5 in float32).
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
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
    """The largest batch that memory has allowed so far; remembered for the run.

    Attributes:
        rows: Rows per pass at most, None while memory has sufficed.
    """

    rows: int | None = None

    def compute(self, function: Callable[[Item], Result], item: Item) -> Result:
        """Call a function, with half of its `batch_size` after every shortage of memory.

        Args:
            function: A dataclass with a field `batch_size`; others are called as they are.
            item: Its argument.

        Raises:
            EngineError: If memory runs out with a single row, or with no batch to halve.
        """
        while True:
            limited = self._limited(function)
            try:
                return limited(item)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                rows = getattr(limited, "batch_size", 1)
                if rows <= 1:
                    raise EngineError(
                        "Memory runs out with a single prompt at a time",
                        mend="Use shorter prompts, a smaller dtype or model, or more memory",
                    ) from error
            # Outside of the handler, where the error no longer holds the tensors of its frames.
            self._halve(rows)
            free_memory()

    def _limited(self, function: Callable[[Item], Result]) -> Callable[[Item], Result]:
        given: Any = function
        rows = getattr(function, "batch_size", None)
        if self.rows is None or rows is None or rows <= self.rows:
            return function
        return replace(given, batch_size=self.rows)

    def _halve(self, rows: int) -> None:
        first = self.rows is None
        self.rows = rows // 2
        if first:
            tell(f"Memory ran out at {rows} rows a pass; going on with fewer for this run.")


def limit_memory(n_bytes: int) -> None:
    """Let this process take at most so much more memory, on GPU and CPU.

    What goes beyond fails as a shortage of memory, which halves batches.

    Raises:
        EngineError: If the system knows no such limit.
    """
    import torch

    if torch.cuda.is_available():
        for device in range(torch.cuda.device_count()):
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, n_bytes / total), device)
        return
    try:
        import resource
    except ImportError:
        raise EngineError("This system does not bound the memory of a process") from None
    with open("/proc/self/statm", encoding="ascii") as file:
        data_pages = int(file.read().split()[5])
    taken = data_pages * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (taken + n_bytes, hard))
