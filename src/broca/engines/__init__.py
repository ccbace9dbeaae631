"""Where conditions are computed: one verb, `map`, whatever the machine or cluster."""

from broca.engines.bounds import limit_memory, load_bounded
from broca.engines.cluster import has_gpus
from broca.engines.engine import Engine
from broca.engines.local import LocalEngine
from broca.engines.ray import RayEngine
from broca.engines.settings import EngineSettings
from broca.engines.shared import SharedEngine
from broca.engines.worker import versions_of

__all__ = [
    "Engine",
    "EngineSettings",
    "LocalEngine",
    "RayEngine",
    "SharedEngine",
    "has_gpus",
    "limit_memory",
    "load_bounded",
    "versions_of",
]
