"""What the page of `hexavit app` shows, step by step in Python; then the page itself.

    python examples/app.py          # trains a small CvT on digits in about a minute, writes pictures, serves the page
    python examples/app.py --stop   # the same without the page

Each `# %%` begins a cell for editors that run a script cell by cell. Pictures are written to `app-example/`.
"""

# %% A small trained model. `train` writes a run folder, which the page takes.
import sys
from pathlib import Path

from hexavit.app import serve
from hexavit.app.comparing import choices, cost_rows, differences, side
from hexavit.app.pictures import run_images
from hexavit.app.seeing import attention_from, depends_on, see
from hexavit.app.sources import Sources
from hexavit.app.surveying import filtered
from hexavit.errors import HexavitError
from hexavit.training import TrainConfig, train

OUT = Path("app-example")
RUN = OUT / "run"
if not RUN.is_dir():
    train(TrainConfig.from_mapping({"model": "cvt_nano", "data": "digits", "epochs": 6, "device": "cpu"}), RUN)

# %% See: one validation image, its classes, attention from a pixel, Grad-CAM, feature maps.
sources = Sources([RUN])
label, image = run_images(sources.run(str(RUN)), 1)[0]
seen = see(sources.load(str(RUN)), image)
print(f"a {label}:", ", ".join(f"{name} {probability:.1%}" for name, probability in seen.classes))
seen.picture.save(OUT / "input.png")
for number, (picture, words) in enumerate(attention_from(seen, row=12, column=19)):
    print("attention,", words)
    picture.save(OUT / f"attention-{number}.png")
((picture, words),) = depends_on(seen, "gradcam", None)
picture.save(OUT / "gradcam.png")

# %% Compare: the model with one part swapped, and an edit that does not fit.
architecture = sources.architecture(str(RUN))
edited = side("with windows", architecture, ["stages.0.attention=window(window=4)"])
for row in (*cost_rows(side("cvt_nano", architecture, []), edited), *differences(architecture, edited.architecture)):
    print("  ".join(row))
try:
    side("with messengers", architecture, ["head=messengers"])
except HexavitError as error:
    print("error:", error)
print(
    "attention parts that fit in stage 0:", *(each.name for each in choices(architecture, "0", "attention")[:5]), "..."
)

# %% Survey: small models with an MIT licence.
for row in filtered(size="up to 30 M", licence="mit")[:3]:
    print(row.system, row.kind, row.part, row.model, sep=" | ")

# %% The page, until Ctrl-C.
if "--stop" not in sys.argv:
    serve([RUN, "cvt_13"], open_browser=True)
