"""Parts of different columns beside each other: each pair builds and learns, or is an error of one sentence."""

import random
from collections.abc import Iterator
from itertools import combinations, product

import pytest
import torch
from tests.models.contract import Case, covering, every_model
from tests.parts.contract import REQUIRED, every_output, stages_around
from tests.slow import mostly_slow

import hexavit
from hexavit import Architecture, Backbone, HexavitError, Part, Stage
from hexavit.architecture import COLUMNS
from hexavit.architecture.stage import BLOCK
from hexavit.network.stage import CLASS_TOKENS
from hexavit.parts import KINDS, options, part_class, part_names

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN = {
    "tokens": Part("keep"),
    "position": Part("none"),
    "attention": Part("global", heads=2),
    "feedforward": Part("mlp"),
    "residual": Part("pre_norm"),
    "head": Part("class_token"),
}
CASES = tuple(every_model())
QUICK = covering(CASES)
SMALL = {"token_dim": 8, "ratio": 1.0, "patch": 2, "word_dim": 4, "region": 2}


def every(kind: str) -> Iterator[Part]:
    """Each part of a kind, with small sizes."""
    for name in part_names(kind):
        known = options(kind, name)
        needed = {key: REQUIRED[key] for key, p in known.items() if p.default is p.empty}
        small = {**SMALL, "window": 2} if "messenger" in name else SMALL
        yield Part(name, **needed, **{key: value for key, value in small.items() if key in known})


def row(**columns: Part) -> Architecture:
    """Two stages of one block, the parts in the last, which reads tokens."""
    given = {**PLAIN, **columns}
    taken = {name for kind, part in columns.items() for name in getattr(part_class(kind, part.name), "takes", ())}
    if "tokens" not in columns:  # those that give what the others take
        giving = (part for part in every("tokens") if taken & set(part_class("tokens", part.name).gives))
        if any(getattr(part_class(kind, part.name), "needs_messengers", False) for kind, part in columns.items()):
            giving = (part for part in every("tokens") if part.name == "messenger_conv")
        given["tokens"] = next(giving, PLAIN["tokens"])
    head = given.pop("head")
    first = Stage(8, 1, tokens=Part("conv", kernel=3, stride=2, padding=1), attention=Part("global", heads=2))
    last = Stage(8, 1, **given)  # type: ignore[arg-type]  # columns by their names
    return Architecture("pair", stages_around(first, last), head, num_classes=3, img_size=(12, 10))


def learns(architecture: Architecture) -> str | None:
    """A step forward and backward; the error message, where the parts do not fit."""
    torch.manual_seed(0)
    try:
        model = Backbone(architecture).train()
    except HexavitError as raised:
        return str(raised)
    outputs = every_output(model(torch.randn(2, 3, 12, 10)))
    assert outputs[0].shape == (2, 3)
    torch.stack([output.square().sum() for output in outputs]).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    return None


def apart(columns: dict[str, Part]) -> bool:
    """Whether two parts need what no tokens part gives together: words, messengers, lower resolutions (which have no
    extra tokens)."""
    classes = [part_class(kind, part.name) for kind, part in columns.items() if kind != "tokens"]
    taken = [set(getattr(cls, "takes", ())) - {CLASS_TOKENS} for cls in classes]
    extra = [getattr(cls, "needs_messengers", False) or getattr(cls, "needs_extra", False) for cls in classes]
    messengers = any(getattr(cls, "needs_messengers", False) for cls in classes)
    lower = any("resolution1" in names for names in taken)
    words = any("words" in name for names in taken for name in names)
    return (lower and any(extra)) or (words and messengers) or (words and lower)


@pytest.mark.parametrize(("a", "b"), list(combinations(KINDS, 2)))
def test_each_pair_learns_or_is_rejected(a: str, b: str) -> None:
    built = 0
    for one, other in product(every(a), every(b)):
        raised = learns(row(**{a: one, b: other}))
        built += raised is None
        if apart({a: one, b: other}):
            assert raised is not None
            assert "\n" not in raised
            continue
        if raised is not None:
            assert "\n" not in raised
            assert one.name in raised
            assert other.name in raised
    assert built


WINDOWS = (
    Part("window", heads=2, window=(3, None), shifted=True),
    Part("window", heads=2, window=(2, 3), spread=True),
    Part("cross_shaped", heads=2, split=4),
    Part("cross_shaped", heads=2, split=None),
)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "attention"])
def test_each_shape_of_a_window_learns_beside_each_part(window: Part, kind: str) -> None:
    built = [other for other in every(kind) if learns(row(**{"attention": window, kind: other})) is None]
    plain = [
        other for other in every(kind) if learns(row(**{"attention": Part("window", heads=2), kind: other})) is None
    ]
    assert built == plain


@pytest.mark.slow
@pytest.mark.parametrize("head", list(every("head")), ids=str)
@pytest.mark.parametrize("tokens", list(every("tokens")), ids=str)
def test_a_sample_of_the_full_product(tokens: Part, head: Part) -> None:
    """Of more than a million rows, the same 200 for these parts in every run."""
    rows = list(product(*(every(kind) for kind in COLUMNS[1:])))
    for parts in random.Random(f"{tokens} {head}").sample(rows, 200):
        raised = learns(row(tokens=tokens, head=head, **dict(zip(COLUMNS[1:], parts, strict=True))))
        assert raised is None or "\n" not in raised


def swaps(whole: Architecture, kind: str) -> Iterator[Architecture]:
    """The model with each other part in a column of its first stage, then of its last (for a head, of its last)."""
    for i in (0,) if kind == "head" else dict.fromkeys((0, len(whole.stages) - 1)):
        place = kind if kind == "head" else f"stages.{i}.{kind}"
        held = {part.name for where, at, part in whole.places() if at == kind and where.startswith(place)}
        windows = [part.options["window"] for _, _, part in whole.places() if "window" in part.options]
        for part in every(kind):
            known = {key: value for key, value in part.options.items() if key != "heads" or kind != "attention"}
            if "messenger" in part.name and windows and "window" in options(kind, part.name):
                known["window"] = windows[0]  # that of the other parts
            if part.name in held:
                continue
            # A branch may take what other tokens do not give; a last stage may have no block for extra tokens.
            first = {"head.enter": 0} if "enter" in options(kind, part.name) else {}
            for more in ({}, {f"stages.{i}.block": BLOCK}, first):
                try:
                    yield whole.override({place: Part(part.name, **known), **more})
                except HexavitError:
                    continue


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", mostly_slow(CASES, QUICK.__contains__))
def test_a_swap_keeps_the_weights_of_the_other_columns(case: Case, kind: str) -> None:
    for swapped in swaps(case.tiny, kind):
        try:
            model = hexavit.create_model(swapped)
        except HexavitError:
            continue
        break
    else:
        pytest.fail(f"no other {kind} stands in {case}")
    original = hexavit.create_model(case.tiny)
    report = hexavit.load_checkpoint(model, original.state_dict(), partial=True, adapt="position")
    assert report.loaded
    place = "head" if kind == "head" else f".{kind}"
    before, after = original.state_dict(), model.state_dict()
    others = [k for k in after if place not in k and k in before and before[k].shape == after[k].shape]
    assert others
    assert all(torch.equal(after[k], before[k]) for k in others)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    outputs = every_output(model.train()(torch.randn(2, 3, *swapped.img_size)))
    torch.stack([output.square().mean() for output in outputs]).sum().backward()
    optimizer.step()
    moved = [k for k, v in model.named_parameters() if k in others and v.requires_grad]
    assert any(not torch.equal(model.state_dict()[k], before[k]) for k in moved)


def test_every_class_of_parts_declares_what_it_needs() -> None:
    """A part that works on extra tokens alone is an error where no head adds any."""
    restored_registries = [(kind, name) for kind in KINDS for name in part_names(kind)]
    needing = [
        (kind, name) for kind, name in restored_registries if getattr(part_class(kind, name), "needs_extra", False)
    ]
    assert needing == [("attention", "class_attention"), ("residual", "extra_only")]
    for kind, name in needing:
        part = next(p for p in every(kind) if p.name == name)
        raised = learns(row(**{kind: part}, head=Part("pool")))
        assert raised is not None
        assert f"{kind}={part} works on extra tokens, and head=pool brings none" in raised
