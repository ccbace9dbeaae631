"""Which experts tokens go to: kept from one pass and held in another.

The control of an edit in a mixture of experts: with routing held, every token goes to the experts
of the untouched pass, with their weights, so that what changes is what the edited neurons wrote;
with routing free, an edit also acts by sending tokens elsewhere in later layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from broca.model.experts import Routing

if TYPE_CHECKING:
    from broca.model.language_model import LanguageModel

ROUTINGS = ("free", "frozen")


@contextmanager
def routing_kept(model: LanguageModel) -> Iterator[dict[int, Routing]]:
    """Collect which experts every token of the next pass goes to, by layer."""
    kept: dict[int, Routing] = {}
    with ExitStack() as stack:
        for layer, block in enumerate(model.blocks):
            if block.experts is None:
                continue

            def keep(routing: Routing, layer: int = layer) -> None:
                kept[layer] = (routing[0].detach().clone(), routing[1].detach().clone())

            stack.enter_context(block.experts.rerouted(keep))
        yield kept


@contextmanager
def routing_replayed(model: LanguageModel, kept: Mapping[int, Routing]) -> Iterator[None]:
    """Send tokens where they went before, in passes over the same tokens; others go freely."""
    with ExitStack() as stack:
        for layer, then in kept.items():
            experts = model.block(layer).experts
            assert experts is not None

            def hold(now: Routing, then: Routing = then) -> Routing | None:
                return then if now[0].shape == then[0].shape else None

            stack.enter_context(experts.rerouted(hold))
        yield
