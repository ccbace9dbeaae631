"""A Ray cluster: the one that is there, or one of this machine's own."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from broca.engines.settings import EngineSettings
from broca.errors import EngineError
from broca.processes import usable_cores
from broca.progress import step

KNOCK_SECONDS = 10.0  # for a cluster's address to open
ANSWER_SECONDS = 2.0  # for it to answer; whoever says nothing may be a cluster
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How HTTP/2, which clusters speak, begins on both sides: with a frame of settings, kind 4."""
_ENCRYPTED = (b"\x15", b"\x16")  # how an answer in TLS begins


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


@dataclass(frozen=True)
class Places:
    """What a cluster has room for.

    Attributes:
        gpus: GPUs of all nodes.
        node_gpus: GPUs of the node with most of them.
        node_cores: Cores of the node with most of them.
        workers: Workers that find a place, each whole on one node.
    """

    gpus: float
    node_gpus: float
    node_cores: float
    workers: int


def places_for(cores: float, gpus: float) -> Places:
    """Room for workers of so many cores and GPUs each, on the nodes that are alive."""
    ray = ray_itself()

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return count_places(nodes, cores, gpus)


def count_places(nodes: Sequence[Mapping[str, float]], cores: float, gpus: float) -> Places:
    """Room on nodes with so much "CPU" and "GPU"."""
    there = [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes] or [(0.0, 0.0)]
    fitting = [min(_times(gpus, has_gpus), _times(cores, has)) for has, has_gpus in there]
    all_cores, all_gpus = zip(*there, strict=True)
    return Places(sum(all_gpus), max(all_gpus), max(all_cores), int(sum(fitting)))


def _times(each: float, there: float) -> float:
    """How often a share fits; shares of GPUs such as .1 are no exact numbers."""
    return math.floor(there / each + 1e-9) if each else math.inf


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
        EngineError: The cluster cannot be reached, Ray does not start, or this process is in
            another cluster.
    """
    ray = ray_itself()

    if ray.is_initialized():
        _refuse_another(settings.address)
        return False
    _silence()
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 lets whatever else runs go first
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if settings.address is None:
        try:
            with _own_path(), step("Starting Ray"):
                ray.init(num_cpus=usable_cores(), include_dashboard=False, **options)
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
    except (Exception, SystemExit) as error:  # Ray's own are plain; it leaves where it waits
        ray.shutdown()
        raise EngineError(
            "This Ray cluster cannot be reached",
            settings.address,
            "Start one with `ray start --head`, or leave the address out for one on this machine",
        ) from error
    return True


def _refuse_another(address: str | None) -> None:
    """Refuse to go on in the cluster this process is in where another one is named.

    Raises:
        EngineError: It is.
    """
    there = str(ray_itself().get_runtime_context().gcs_address)
    if address not in (None, "auto", there):
        raise EngineError(
            f"This process is in the Ray cluster at {there} already",
            address,
            "Call ray.shutdown() first, or leave the address out",
        )


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
    """Ask at an address whether a cluster can be there: Ray itself tries for minutes.

    Raises:
        OSError: Nobody answers, or somebody else.
        ValueError: The address names no port.
    """
    if address in ("auto", "local"):
        return
    place = urlsplit(address if "://" in address else f"ray://{address}")
    if place.hostname is None or place.port is None:
        raise ValueError(f"{address} is no host:port")
    with socket.create_connection((place.hostname, place.port), KNOCK_SECONDS) as there:
        there.settimeout(ANSWER_SECONDS)
        there.sendall(_HELLO)
        with suppress(TimeoutError):
            said = there.recv(4)
            if said and said[3:] != _HELLO[-6:-5] and said[:1] not in _ENCRYPTED:
                raise ConnectionError(f"{address} speaks another protocol")
