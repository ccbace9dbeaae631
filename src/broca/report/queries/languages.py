"""What boosting and suppressing a query's neurons does, by language."""

from broca.report.queries.effect import REPORT

__all__ = ["REPORT"]
