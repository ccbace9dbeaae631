"""Tests of the page: on the embedded model, by plain requests and in a real browser."""
