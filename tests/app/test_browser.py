"""The page in Chromium."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from tests.app.serving import Watched, browser, needs_browser, served
from tests.app.test_pictures import HOSTILE
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


def click_a_pixel(watched: Watched) -> None:
    page = watched.page
    page.wait_for_selector("#attention figure")
    box = page.locator("#picture img").bounding_box()
    assert box is not None
    page.locator("#picture img").click(position={"x": box["width"] * 0.8, "y": box["height"] * 0.3})
    page.wait_for_function("document.querySelector('#pixel-x input').value == 25")  # of 32 pixels
    assert page.locator("#pixel-y input").input_value() == "9"
    assert page.locator("#attention figure").count() == 3


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
        click_a_pixel(watched)
        swap_a_part(watched)
        show_an_error(watched)
        watched.check()


_WIDTHS = (
    """() => [...document.querySelectorAll('.hx-table, .hx-bars')].map(each => each.offsetWidth).filter(Boolean)"""
)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (400, "dark"), (400, "light")])
def test_every_view(address: str, width: int, scheme: str) -> None:
    """Nothing is wider than the window, and nothing comes from elsewhere."""
    with browser(address, width, scheme) as watched:
        watched.open()
        page = watched.page
        page.wait_for_selector("#attention figure")
        filled = {
            "Compare": "#columns table",
            "Survey": "#survey table",
            "Runs": "#run-figures table",
            "See": "#maps img",
        }
        for name, selector in filled.items():
            watched.tab(name)
            page.wait_for_selector(selector)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            assert min(page.evaluate(_WIDTHS), default=width) > 200, name  # of tables and bars
        watched.tab("Studies")
        page.get_by_text("No study was given").wait_for()
        watched.check()


@pytest.mark.slow
def test_filters_and_evaluation(address: str) -> None:
    with browser(address) as watched:
        watched.open()
        page = watched.page
        watched.tab("Survey")
        watched.pick("filter-system", "CvT")
        page.wait_for_function("document.querySelectorAll('#survey tbody tr').length < 10")
        assert set(page.locator("#survey tbody tr td:first-child").all_inner_texts()) == {"CvT"}
        watched.tab("Runs")
        page.wait_for_selector("#plot-loss canvas, #plot-loss svg")
        page.locator("#evaluate").click()
        page.wait_for_selector("#confusion img")
        assert "images (val) are right" in page.locator("#evaluation").inner_text()
        watched.check()


@pytest.mark.slow
def test_random_weights_are_named_on_the_page(address: str) -> None:
    with browser(address) as watched:
        watched.open()
        watched.pick("model", "cvt_nano")
        watched.page.get_by_text("Random weights: the classes and the maps of cvt_nano mean nothing").wait_for()
        watched.check()


@pytest.mark.slow
def test_the_page_is_used_by_keyboard(address: str) -> None:
    with browser(address) as watched:
        watched.open()
        page = watched.page
        page.get_by_role("tab", name="See", exact=True).focus()
        page.keyboard.press("Tab")
        page.locator("#pixel-x input").focus()
        page.keyboard.press("Control+A")
        page.keyboard.type("5")
        before = page.locator("#attention").inner_html()
        page.keyboard.press("Enter")
        page.wait_for_function("before => document.querySelector('#attention').innerHTML != before", arg=before)
        page.locator("#samples button").nth(1).focus()
        before = page.locator("#picture img").get_attribute("src")
        page.keyboard.press("Enter")
        page.wait_for_function("before => document.querySelector('#picture img').src != before", arg=before)
        page.get_by_role("tab", name="Compare", exact=True).focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("#columns table")
        watched.check()


@pytest.mark.slow
def test_hostile_uploads_end_in_a_sentence(address: str) -> None:
    with browser(address) as watched:
        watched.open()
        page = watched.page
        for name, content in HOSTILE.items():
            watched.upload(name, content)
            page.locator("#see-error", has_text=f"{name}: ").wait_for()
        watched.upload("noise.png", png())
        page.wait_for_selector("#see-error", state="hidden")
        watched.check()
