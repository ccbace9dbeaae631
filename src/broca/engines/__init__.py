"""Where conditions are computed: one verb, `map`, whatever the machine or cluster."""

from broca.engines.engine import Engine
from broca.engines.local import LocalEngine

__all__ = ["Engine", "LocalEngine"]
