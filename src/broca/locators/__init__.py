"""Locators: every way to give each neuron a number, behind one signature.

A locator takes a model, prompts and what is read there, and gives a number per neuron (and prompt):
high where the neuron supports the answer. One file each, with formula, source and cost. What their
numbers are worth is measured by :mod:`broca.studies.locators`.
"""

from broca.locators.locator import Located, Locator, Question
from broca.locators.registry import LOCATORS, find_locator, locate

__all__ = ["LOCATORS", "Located", "Locator", "Question", "find_locator", "locate"]
