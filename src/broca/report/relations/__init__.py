"""The relation studies on the page: first screen, then a section per study."""

from broca.report.relations.page import report_part

__all__ = ["report_part"]
