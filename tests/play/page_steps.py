"""Steps on the page in a real browser that several tests take."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from broca.play import Serving
from play.plain_play import PROMPT, RELATION

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect

expect.set_options(timeout=60_000)
Opened = Callable[..., Page]


def type_prompt(page: Page, answer: str = "Cancer") -> None:
    page.get_by_label("Prompt", exact=True).fill(PROMPT)
    page.get_by_label("Form of asking").select_option("question")
    page.get_by_label("Answer to measure").fill(answer)
    expect(page.locator("#answered .asked")).to_have_text(f"{PROMPT}? Answer:")
    settled(page)


def use_set(page: Page, name: str = RELATION) -> None:
    page.get_by_label("A neuron set", exact=True).fill(name)
    page.get_by_role("button", name="Use this set").click()
    expect(page.get_by_role("heading", name="Matched random, 5 draws")).to_be_visible()
    settled(page)  # what stands there before may be first tokens, or the answer before


def words(page: Page, side: str) -> str:
    return page.locator(f".side.{side} .words").inner_text()


def settled(page: Page) -> None:
    expect(page.locator("#edited")).to_have_attribute("aria-busy", "false")


def use_neurons(page: Page, text: str) -> None:
    page.get_by_label("Or neurons").fill(text)
    page.get_by_role("button", name="Use these").click()


def with_state(server: Serving, content: Any) -> str:
    packed = base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
    return f"{server.url}#s={packed}"


def choose_fact(page: Page, letters: str) -> None:
    """Choose the first fact with these letters, when it is the first of the list."""
    page.get_by_label("With these letters").fill(letters)
    first = page.locator("#facts button").first
    expect(first).to_contain_text(letters)
    first.click()


def find(page: Page) -> None:
    """Find neurons by a quick method."""
    page.get_by_label("Method").select_option("gradient-activation")
    page.get_by_role("button", name="Find neurons").click()
    expect(page.get_by_role("heading", name="Attribution against exact effect")).to_be_visible()
