"""Where conditions are computed: one verb, `map`, whatever the machine or cluster."""

from broca.engines.cluster import has_gpus
from broca.engines.engine import Engine
from broca.engines.local import LocalEngine
from broca.engines.memory import limit_memory
from broca.engines.ray import RayEngine
from broca.engines.settings import EngineSettings
from broca.engines.shared import SharedEngine

__all__ = [
    "Engine",
    "EngineSettings",
    "LocalEngine",
    "RayEngine",
    "SharedEngine",
    "has_gpus",
    "limit_memory",
]
