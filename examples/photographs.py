"""Make a folder of class folders with photographs and digits in many file formats, some of them broken.

    python examples/photographs.py photographs

Two classes are crops of scikit-learn's two photographs, ten are its handwritten digits. The files are JPEG, PNG, 16-bit
PNG, JPEG with an EXIF rotation, GIF, CMYK, WebP and TIFF; three are broken, and one image of a one is also in the
class of sevens. `FOLDER/classes` is for training, `FOLDER/new` for `predict`. Nothing is downloaded, and the result is
deterministic. See docs/walk-through.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 96  # of every image, in pixels


def jpeg(image: Image.Image, path: Path) -> None:
    image.save(path.with_suffix(".jpg"), quality=90)


def png(image: Image.Image, path: Path) -> None:
    image.save(path.with_suffix(".png"))


def sixteen_bits(image: Image.Image, path: Path) -> None:
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(path.with_suffix(".png"))


def exif_rotated(image: Image.Image, path: Path) -> None:
    """Pixels rotated by 90 degrees, with the EXIF tag that corrects the rotation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image.rotate(90, expand=True).save(path.with_suffix(".JPG"), quality=90, exif=exif)


def palette(image: Image.Image, path: Path) -> None:
    image.quantize(64).save(path.with_suffix(".gif"))


def cmyk(image: Image.Image, path: Path) -> None:
    image.convert("CMYK").save(path.with_suffix(".jpeg"), quality=90)


def webp(image: Image.Image, path: Path) -> None:
    image.save(path.with_suffix(".webp"), quality=90)


def tiff(image: Image.Image, path: Path) -> None:
    image.save(path.with_suffix(".tif"), compression="tiff_deflate")


KINDS: tuple[Callable[[Image.Image, Path], None], ...] = (
    jpeg,
    png,
    sixteen_bits,
    exif_rotated,
    palette,
    cmyk,
    webp,
    tiff,
)


def crops(photograph: np.ndarray, count: int, generator: np.random.Generator) -> list[Image.Image]:
    """Random square crops of random size, resized to SIDE."""
    image, made = Image.fromarray(photograph), []
    for _ in range(count):
        side = int(generator.integers(SIDE, 2 * SIDE))
        left, top = (int(generator.integers(0, length - side)) for length in image.size)
        made.append(image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return made


def pictures(per_class: int) -> dict[str, list[Image.Image]]:
    """The images of each class."""
    generator = np.random.default_rng(0)
    made = {
        name: crops(photograph, per_class, generator)
        for name, photograph in zip(("china", "flower"), load_sample_images().images, strict=True)
    }
    digits = load_digits()
    for label, name in enumerate(DIGITS):
        chosen = digits.images[digits.target == label][:per_class]
        made[name] = [
            Image.fromarray(np.round(each * (255 / 16)).astype(np.uint8)).resize((SIDE, SIDE)).convert("RGB")
            for each in chosen
        ]
    return made


def make(folder: Path, per_class: int = 60, new_per_class: int = 2) -> Path:
    """Write `folder/classes` and `folder/new`."""
    for label, (name, images) in enumerate(pictures(per_class + new_per_class).items()):
        (folder / "classes" / name).mkdir(parents=True)
        (folder / "new").mkdir(exist_ok=True)
        for number, image in enumerate(images):
            home = folder / "classes" / name / f"{number:03d}"
            place = home if number < per_class else folder / "new" / f"{name}-{number:03d}"
            KINDS[(number + label) % len(KINDS)](image, place)
    broken = folder / "classes" / "flower"
    whole = min(broken.glob("*.jpg")).read_bytes()
    (broken / "cut-off.jpg").write_bytes(whole[: len(whole) // 3])
    (broken / "empty.png").touch()
    (broken / "a-letter.jpg").write_text("Dear reader, this is no photograph.\n")
    wrong = folder / "classes" / "seven" / "copy-of-a-one.png"
    wrong.write_bytes(min((folder / "classes" / "one").glob("*.png")).read_bytes())
    (folder / "new" / "cut-off.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a folder of photographs and digits.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--per-class", type=int, default=60)
    args = parser.parse_args()
    make(args.folder, args.per_class)
    print(f"{args.folder / 'classes'}: {12 * args.per_class + 4} files in 12 classes; {args.folder / 'new'}: 25 more")


if __name__ == "__main__":
    main()
