"""Locator studies: what every way to give neurons a number is worth (METHODS §8)."""
