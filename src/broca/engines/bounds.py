"""The most memory that a process takes, `--max-memory`: of each GPU, or of the processor.

Weights and batches count together; what Python and its packages take does not. GPUs are bounded
before the model is loaded. A processor is bounded afterwards, by what the weights leave: what reads
files of weights ends the process where it gets no memory, and that no program can tell.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from broca.engines.memory import free_memory, is_out_of_memory
from broca.errors import EngineError

LEAST_BYTES = 32 << 20  # for batches, on a processor
_SHORT = ("out of memory", "allocate memory", "failed to map segment")


def limit_memory(n_bytes: int, *, gpus: bool | None = None) -> Callable[[], None]:
    """Let this process take at most so much more memory.

    What goes beyond fails as a shortage of memory, which halves batches.

    Args:
        n_bytes: Of each GPU, or of the processor.
        gpus: Whether the model is on GPUs, whose memory is limited then; by default where there
            are any.

    Returns:
        What lifts the limit.

    Raises:
        EngineError: The system knows no such limit.
    """
    import torch

    if gpus is not False and torch.cuda.is_available():
        for device in range(torch.cuda.device_count()):
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, n_bytes / total), device)
        return _lift_from_gpus
    return _limit_data(n_bytes)


def _lift_from_gpus() -> None:
    import torch

    for device in range(torch.cuda.device_count()):
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def _limit_data(n_bytes: int) -> Callable[[], None]:
    """Limit the processor's memory.

    Raises:
        EngineError: The system knows no such limit.
    """
    wanted = _data_bytes() + n_bytes
    import resource

    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    least = min([wanted, *(one for one in (before, hard) if one != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_DATA, (least, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


def _data_bytes() -> int:
    """What this process has taken.

    Raises:
        EngineError: The system bounds no process by that.
    """
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[5]) * resource.getpagesize()
    except (ImportError, OSError):
        raise EngineError(
            "This system does not bound the memory of a process",
            "--max-memory",
            "Leave it out; lower batch_size instead",
        ) from None


def load_bounded(
    load: Callable[[], Any], n_bytes: int | None, *, gpus: bool | None = None
) -> tuple[Any, Callable[[], None]]:
    """Load a model into the memory there is, and bound what it computes with.

    Args:
        load: Gives the model.
        n_bytes: The most memory, for weights and batches; None for no limit.
        gpus: As of :func:`limit_memory`.

    Returns:
        The model, and what lifts the limit.

    Raises:
        EngineError: The model does not fit, or the system knows no such limit.
        BrocaError: As `load` raises.
    """
    import torch

    if n_bytes is None:
        return _loaded(load, None), _nothing
    if gpus is not False and torch.cuda.is_available():
        lift = limit_memory(n_bytes, gpus=True)
        try:
            return _loaded(load, n_bytes), lift
        except BaseException:
            lift()
            raise
    _data_bytes()
    model = _loaded(load, n_bytes)
    weights = _weight_bytes(model)
    if n_bytes - weights < LEAST_BYTES:
        raise EngineError(
            f"The model's weights take {weights / 2**20:,.0f} MiB, batches "
            f"{LEAST_BYTES / 2**20:.0f} at least",
            _at(n_bytes),
            _mend(n_bytes),
        )
    return model, limit_memory(n_bytes - weights, gpus=False)


def _nothing() -> None:
    pass


def _loaded(load: Callable[[], Any], n_bytes: int | None) -> Any:
    """The model.

    Raises:
        EngineError: Memory runs out.
    """
    try:
        return load()
    except Exception as error:
        if not _ran_short(error):
            raise
    # Outside of the handler, where the error no longer holds what was loaded.
    free_memory()
    raise EngineError("Memory runs out while the model is loaded", _at(n_bytes), _mend(n_bytes))


def _at(n_bytes: int | None) -> str | None:
    return None if n_bytes is None else f"--max-memory of {n_bytes / 2**20:,.0f} MiB"


def _mend(n_bytes: int | None) -> str:
    more = "Raise it: weights count. Or load" if n_bytes is not None else "Load"
    return f"{more} a smaller model, or this one in a smaller dtype or on more GPUs"


def _weight_bytes(model: Any) -> int:
    """Of the weights that are in the processor's memory."""
    module = getattr(model, "module", None)
    weights = module.parameters() if module is not None else ()
    return sum(p.numel() * p.element_size() for p in weights if p.device.type == "cpu")


def _ran_short(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, is a shortage of memory."""
    while error is not None:
        text = str(error).lower()
        if is_out_of_memory(error) or any(words in text for words in _SHORT):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        error = error.__cause__ or error.__context__
    return False
