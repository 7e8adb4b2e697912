"""Take the screenshots of docs/app.md: `python docs/app_pictures.py` (needs Chromium, playwright and hexavit[app]).

Trains a small CvT on scikit-learn's digits for six epochs, serves the page, and visits it at 1280 and at 400 pixels.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent / "images"
COMMAND = [sys.executable, "-m", "hexavit"]


def save(page: Any, name: str, height: int) -> None:
    """A screenshot of the top `height` pixels as a PNG of 256 colours."""
    png = page.screenshot(full_page=True)
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture = picture.crop((0, 0, picture.width, min(height, picture.height)))
    picture.quantize(256).save(IMAGES / f"{name}.png", optimize=True)


def see(page: Any, name: str, height: int) -> None:
    """The view See after a click on the pixel at 60 % of the width and 40 % of the height."""
    page.wait_for_selector("#cam figure")
    box = page.locator("#picture img").bounding_box()
    page.locator("#picture img").click(position={"x": 0.6 * box["width"], "y": 0.4 * box["height"]})
    page.wait_for_function("document.querySelector('#pixel-x input').value == 19")
    page.wait_for_timeout(500)  # the pictures are decoded
    save(page, name, height)


def compare(page: Any) -> None:
    """The view Compare with one part swapped."""
    page.get_by_role("tab", name="Compare", exact=True).click()
    page.wait_for_selector("#columns table")
    page.locator("#edits-b textarea").fill("stages.2.attention=window\nhead=pool")
    page.wait_for_function("document.querySelectorAll('#columns .hx-differs').length == 2")
    page.wait_for_timeout(500)
    save(page, "app-compare", 1400)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        train = [*COMMAND, "train", "digits", "--epochs", "6", "--out", "runs/digits", "--device", "cpu"]
        subprocess.run(train, cwd=folder, check=True)
        served = subprocess.Popen(
            [*COMMAND, "app", "runs/digits", "--port", "0"], cwd=folder, stdout=subprocess.PIPE, text=True
        )
        try:
            assert served.stdout is not None
            found = re.search(r"http://\S+", served.stdout.readline())
            assert found
            with sync_playwright() as playwright:
                chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                for width, scheme, name in ((1280, "light", "app-see"), (400, "dark", "app-narrow")):
                    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                    page.goto(found[0])
                    see(page, name, 1350 if width == 1280 else 1500)
                    if width == 1280:
                        compare(page)
                chromium.close()
        finally:
            served.terminate()
            served.wait()


if __name__ == "__main__":
    main()
