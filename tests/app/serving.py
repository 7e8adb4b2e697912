"""The page in a process of its own, and Chromium, for the tests."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hexavit

CHROMIUM = shutil.which("chromium")
needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="Gradio is not installed")
needs_browser = [
    needs_gradio,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium (Debian's package `chromium`) is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed"),
]


@contextmanager
def served(*sources: object) -> Iterator[str]:
    """The address of `hexavit app SOURCES` on a free port."""
    source = str(Path(hexavit.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "hexavit", "app", *map(str, sources), "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+/", line)
            assert found, line
            yield found[0]
        finally:
            process.terminate()
            process.wait(20)


class Watched:
    """A page of Chromium whose console errors, failed requests and requests to other servers are collected."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.problems: list[str] = []
        self.outside: list[str] = []
        page.on("console", lambda entry: self.problems.append(entry.text) if entry.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self._request)
        page.on("websocket", lambda socket: self.outside.append(socket.url))

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.outside.append(request.url)

    def open(self) -> None:
        """Load the page and wait for the first view."""
        self.page.goto(self.address)
        self.page.wait_for_selector("#classes li")

    def tab(self, name: str) -> None:
        """Open a view; narrow windows have some of them in a menu."""
        found = self.page.get_by_role("tab", name=name, exact=True)
        if found.is_visible():
            found.click()
        else:
            self.page.locator(".overflow-menu > button").click()
            self.page.locator(".overflow-dropdown button", has_text=name).click()

    def pick(self, widget: str, entry: str) -> None:
        """Choose an entry of a menu."""
        self.page.locator(f"#{widget} input").click()
        self.page.get_by_role("option", name=entry, exact=True).click()

    def upload(self, name: str, content: bytes) -> None:
        """Give a file to the upload field."""
        field = self.page.locator("#upload")
        if field.locator("input[type=file]").count() == 0:
            field.get_by_label("Clear").click()
        files = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
        self.page.locator("#upload input[type=file]").set_input_files(files)

    def check(self) -> None:
        """No error in the console, and no request to another server."""
        assert self.problems == []
        assert self.outside == []


@contextmanager
def browser(address: str, width: int = 1280, scheme: str = "light") -> Iterator[Watched]:
    """A page of Chromium, not yet opened."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.set_default_timeout(60_000)
            yield Watched(page, address)
        finally:
            chromium.close()
