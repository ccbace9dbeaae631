"""The local engine: every item once, in order, and only when it is asked for."""

from __future__ import annotations

from broca.engines import Engine, LocalEngine


def test_items_come_with_their_results_in_order():
    engine: Engine = LocalEngine()
    assert list(engine.map(lambda x: x * x, [3, 1, 2], "Squaring", [1, 1, 1])) == [
        (3, 9),
        (1, 1),
        (2, 4),
    ]
    assert list(engine.map(str, [])) == []


def test_an_item_is_computed_after_the_one_before_was_taken():
    """So that whatever was yielded can be stored before the next item is begun."""
    seen: list[int] = []
    results = LocalEngine().map(seen.append, [1, 2, 3])
    next(results)
    assert seen == [1]
