"""What of a field is asked about, what is shown before it, and what a form is chosen on: apart.

No fact or question is in two of the three. Those that are shown come first in the order drawn, and
those on which a form is chosen last: where there are many, it makes no difference to what is asked
whether a form is given or chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

KEPT_FOR_SHOWING = 24  # facts of a relation that demonstrations are drawn from, at most
LARGEST_SHARE_SHOWN = 1 / 3  # of a relation's facts
KEPT_FOR_FORMS = 6  # facts of a relation that a form is chosen on, at most
LARGEST_SHARE_TRIED = 1 / 6


@dataclass(frozen=True)
class Apart(Generic[Item]):
    """The three parts of a field.

    Attributes:
        asked: What is asked about.
        shown: What demonstrations are drawn from.
        tried: What a form is chosen on.
    """

    asked: Sequence[Item]
    shown: Sequence[Item] = ()
    tried: Sequence[Item] = ()


def set_apart(
    drawn: Sequence[Item], *, shows: bool, tries: bool, most: int | None = None
) -> Apart[Item]:
    """Part the facts or questions of a field.

    Args:
        drawn: All of them, in the order in which they were drawn.
        shows: Whether some are shown before the asked ones.
        tries: Whether a form is chosen.
        most: Asked ones, at most.
    """
    n_shown = min(KEPT_FOR_SHOWING, int(len(drawn) * LARGEST_SHARE_SHOWN)) if shows else 0
    n_tried = min(KEPT_FOR_FORMS, int(len(drawn) * LARGEST_SHARE_TRIED)) if tries else 0
    end = len(drawn) - n_tried
    return Apart(drawn[n_shown:end][:most], drawn[:n_shown], drawn[end:])
