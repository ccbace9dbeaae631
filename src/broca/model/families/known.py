"""The families that docs/models.md lists, by model type."""

KNOWN: tuple[str, ...] = ()
