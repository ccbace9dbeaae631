"""The query studies on the page: first screen, then a section per study."""

from broca.report.queries.page import report_part

__all__ = ["report_part"]
