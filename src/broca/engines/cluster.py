"""A Ray cluster: the one that is there, or one of this machine's own."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from broca.engines.settings import EngineSettings
from broca.errors import EngineError
from broca.progress import step

KNOCK_SECONDS = 10.0  # for a cluster's address to answer


def ray_itself() -> Any:
    """Ray, an extra that need not be there.

    Raises:
        EngineError: It is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise EngineError(
            "The engine 'ray' needs the package ray", mend="Run: pip install 'broca[ray]'"
        )
    return importlib.import_module("ray")


def has_gpus() -> bool:
    """Whether this process is a worker that has GPUs of its own."""
    return bool(ray_itself().get_runtime_context().get_accelerator_ids().get("GPU"))


@contextmanager
def _own_path() -> Iterator[None]:
    """Let processes that start here find the modules that this one finds."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def connect(settings: EngineSettings) -> bool:
    """Join the cluster, or start one here; whether it was started here.

    Raises:
        EngineError: The cluster cannot be reached, or Ray does not start.
    """
    ray = ray_itself()

    if ray.is_initialized():
        return False
    _silence()
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 lets whatever else runs go first
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if settings.address is None:
        try:
            with _own_path(), step("Starting Ray"):
                ray.init(num_cpus=os.cpu_count(), include_dashboard=False, **options)
        except Exception as error:  # Ray's own are plain Exceptions
            raise EngineError(
                f"Ray did not start on this machine: {last_line(error)}",
                mend="Try again when the machine is less busy, or use --engine local or --join",
            ) from error
        return True
    try:
        with step("Joining the Ray cluster"):
            _knock(settings.address)
            ray.init(address=settings.address, **options)
    except ImportError as error:
        raise EngineError(
            "Addresses ray:// need the package grpcio",
            settings.address,
            "Run: pip install 'broca[ray]', or give host:port of a cluster that this machine is in",
        ) from error
    except (ValueError, RuntimeError, OSError, SystemExit) as error:  # Ray leaves where it waits
        raise EngineError(
            "This Ray cluster cannot be reached",
            settings.address,
            "Start one with `ray start --head`, or leave the address out for one on this machine",
        ) from error
    return True


def _silence() -> None:
    """Keep what Ray's nodes say off standard output, where it would stand amid what runs print.

    No option does that. Of workers that died, what they say is in the workers' logs.
    """
    inside: Any = importlib.import_module("ray._private.worker")
    if hasattr(inside, "_worker_logs_enabled"):
        inside._worker_logs_enabled = False


def last_line(told: BaseException | str) -> str:
    """The last line of an error, where its reason stands."""
    lines = str(told).strip().splitlines()
    return lines[-1] if lines else type(told).__name__


def _knock(address: str) -> None:
    """Open a connection to an address and close it: Ray itself tries for minutes.

    Raises:
        OSError: Nobody answers.
        ValueError: The address names no port.
    """
    if address in ("auto", "local"):
        return
    place = urlsplit(address if "://" in address else f"ray://{address}")
    if place.hostname is None or place.port is None:
        raise ValueError(f"{address} is no host:port")
    socket.create_connection((place.hostname, place.port), timeout=KNOCK_SECONDS).close()
