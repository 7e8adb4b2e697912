"""The page in Chromium."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from tests.app.serving import Watched, browser, needs_browser, served
from tests.using import trained

pytestmark = needs_browser


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(trained().path, "cvt_nano") as found:
        yield found


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 40, 3), dtype=np.uint8)).save(file, format="png")
    return file.getvalue()


def swap_a_part(watched: Watched) -> None:
    page = watched.page
    watched.tab("Compare")
    page.wait_for_selector("#columns table")
    page.wait_for_selector("#edit-part input")
    page.wait_for_function("document.querySelector('#edit-part input').value == 'conv_projection'")
    watched.pick("edit-part", "window")
    page.wait_for_selector("#columns .hx-differs")
    assert page.locator("#edits-b textarea").input_value() == "stages.0.attention=window"
    assert "window" in page.locator("#differences").inner_text()
    assert page.locator("#macs .hx-fill-b").count() >= 5


def show_an_error(watched: Watched) -> None:
    page = watched.page
    page.locator("#edits-b textarea").fill("head=messengers")
    page.wait_for_selector("#compare-error")
    assert "B: head=messengers works on the extra tokens of windows" in page.locator("#compare-error").inner_text()
    page.get_by_role("button", name="Remove all edits of B").click()
    page.wait_for_selector("#compare-error", state="hidden")


def test_a_visit(address: str) -> None:
    """Upload, click a pixel, swap a part, show an error."""
    with browser(address) as watched:
        watched.open()
        page = watched.page
        assert "Weights: best" in page.locator("#weights").inner_text()
        before = page.locator("#picture img").get_attribute("src")
        watched.upload("noise.png", png())
        page.wait_for_function("before => document.querySelector('#picture img').src != before", arg=before)
        swap_a_part(watched)
        show_an_error(watched)
        watched.check()
