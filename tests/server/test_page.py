"""The page at / in headless Chromium: with the keyboard alone, streaming, under its strict policy, with a key."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tlite_vk.generate import Model
from tlite_vk.server.job import Piece
from tlite_vk.server.settings import Settings

from .conftest import Gate, Running, running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Debian's Chromium. Fails where it is missing."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.fail("Chromium is not installed; run: apt-get install chromium", pytrace=False)
    environment: dict[str, str | float | bool] = {k: v for k, v in os.environ.items() if not k.startswith("VK_")}
    environment["HOME"] = str(tmp_path_factory.mktemp("home"))
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], env=environment)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page; anything that it complains of fails the test, unless the test takes it from `complaints`."""
    opened = browser.new_page()
    opened.set_default_timeout(30_000)
    opened.route("**/v1/chat/completions", shortened)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield opened
    assert [c for c in complaints if "401" not in c] == []
    opened.close()


def shortened(route: Route) -> None:
    """The tiny model never stops by itself."""
    body = json.loads(route.request.post_data or "{}") | {"max_tokens": 60}
    route.continue_(post_data=json.dumps(body))


def answers(page: Page) -> list[str]:
    return page.locator("article.assistant").all_text_contents()


def wait_until_idle(page: Page) -> None:
    expect(page.locator("#send")).to_be_enabled()


@pytest.fixture
def server(model: Model) -> Iterator[Running]:
    with running(model, Settings("tiny")) as started:
        yield started


def test_a_chat_by_keyboard(server: Running, page: Page) -> None:
    page.goto(server.url)
    expect(page.locator("#model")).to_have_text("tiny")
    page.keyboard.type("hello")  # the field has the focus
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("you")
    page.keyboard.press("Enter")
    page.wait_for_selector("article.assistant")
    wait_until_idle(page)
    assert page.locator("article.user").all_text_contents() == ["hello\nyou"]
    first = answers(page)[0]
    assert first and page.locator("#status").text_content() != ""
    page.keyboard.type("again")
    page.keyboard.press("Enter")
    page.wait_for_selector("article.assistant >> nth=1")
    wait_until_idle(page)
    assert len(answers(page)) == 2
    for _ in range(20):  # every control is reached with Tab
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "reset":
            break
    page.keyboard.press("Enter")
    assert page.locator("article").count() == 0


def test_it_stops_before_anything_came(server: Running, page: Page, gate: Gate) -> None:
    page.goto(server.url)
    page.locator("#text").press_sequentially("hello")
    page.locator("#text").press("Enter")
    assert gate.reached.wait(60)
    page.keyboard.press("Escape")
    wait_until_idle(page)
    assert page.locator("#status").text_content() == "stopped" and page.locator("article").count() == 0
    assert page.locator("#text").input_value() == "hello"  # to be sent again
    gate.open.set()
    page.keyboard.press("Enter")
    page.wait_for_selector("article.assistant")
    wait_until_idle(page)
    assert answers(page)[0]


def test_it_streams_and_stops_in_the_middle(server: Running, page: Page, model: Model, monkeypatch: Any) -> None:
    """The device stands still after the first piece of text, which is on the page, and stays when it is stopped."""
    run, sent, go = model.engine.run, threading.Event(), threading.Event()

    def first_piece(*arguments: Any) -> Piece:
        sent.set()
        return Piece(*arguments)

    def slow(*arguments: Any, **more: Any) -> None:
        if sent.is_set():
            go.wait(60)
        run(*arguments, **more)

    monkeypatch.setattr("tlite_vk.server.job.Piece", first_piece)
    monkeypatch.setattr(model.engine, "run", slow)
    page.goto(server.url)
    page.locator("#text").press_sequentially("hello")
    page.keyboard.press("Enter")
    try:
        expect(page.locator("article.assistant")).not_to_be_empty()
        expect(page.locator("#send")).to_be_disabled()
        page.keyboard.press("Escape")
        wait_until_idle(page)
    finally:
        go.set()
    assert answers(page)[0] and page.locator("#status").text_content() == "stopped"


def test_the_key_is_asked_for(model: Model, page: Page) -> None:
    with running(model, Settings("tiny", key="secret")) as server:
        page.goto(server.url)
        page.wait_for_selector("#key:not([hidden])")
        page.keyboard.type("secret")  # it has the focus
        page.keyboard.press("Tab")
        expect(page.locator("#model")).to_have_text("tiny")
        page.locator("#text").focus()
        page.keyboard.type("hi")
        page.keyboard.press("Enter")
        page.wait_for_selector("article.assistant")
        wait_until_idle(page)


def test_text_is_shown_as_text(server: Running, page: Page) -> None:
    page.goto(server.url)
    page.locator("#text").press_sequentially("<b>x</b><img src=x onerror=alert(1)>")
    page.keyboard.press("Enter")
    page.wait_for_selector("article.assistant")
    wait_until_idle(page)
    assert page.locator("article b, article img").count() == 0


def test_the_policy_is_strict(server: Running) -> None:
    response = httpx.get(server.url)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert "http://" not in response.text and "https://" not in response.text  # no assets from elsewhere
    assert not [line for line in response.text.splitlines() if " on" in line and '="' in line.split(" on")[-1][:12]]
    assert Path(__file__).parents[2].joinpath("tlite_vk/server/page.html").read_text(encoding="utf-8") == response.text
