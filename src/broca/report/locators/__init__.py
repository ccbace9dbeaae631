"""The locator studies on the page: a file per study, found by its name."""
