"""Tests of one study each, by its name."""
