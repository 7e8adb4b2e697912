"""What every part promises, as one inherited test class. Every registered part is tested.

A part of your own: `class TestMine(PartContract): cases = (Case("attention", "mine", {"heads": 2}),)`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from tests.parts.attention_maps import NOT_ALL_MOVE, NOT_LINEAR, derivatives, with_fixed_weights
from torch import nn

from hexavit import Architecture, Backbone, Part, Stage, profile
from hexavit.explain.reading import Reading, attention_parts, read_attention
from hexavit.parts import KINDS, Tokens, options, part_class, part_names, record_attention, softmax_path
from hexavit.parts.attention import Attention
from hexavit.profiling import Cost

# Values of options that have no default, by their name.
REQUIRED: dict[str, Any] = {
    "heads": 2,
    "kernel": 3,
    "stride": 2,
    "padding": 1,
    "channels": (8,),
    "kernels": (3,),
    "strides": (2,),
}

# Options of parts whose defaults are too large for the tiny model, and what a part needs around it.
SMALL: dict[tuple[str, str], dict[str, Any]] = {
    ("attention", "local"): {"kernel": 3},
    ("tokens", "token_learner"): {"count": 3, "hidden": 8},
    ("tokens", "token_learner_v1"): {"count": 3},
    ("tokens", "token_fuser"): {"hidden": 8},
    ("tokens", "words"): {"patch": 2, "word_dim": 4, "kernel": 3, "stride": 1},
    ("tokens", "messenger_conv"): {"window": 2, "region": 2},
    ("tokens", "messenger_merging"): {"window": 2},
    ("attention", "messenger_window"): {"window": 2},
    ("residual", "messenger_exchange"): {"window": 2, "region": 2},
}
MESSENGERS = "messenger_conv(kernel=3, stride=1, padding=1, window=2, region=2)"
AROUND: dict[tuple[str, str], tuple[str, ...]] = {
    ("feedforward", "resolution_fusion"): ("stages.1.tokens=add_resolution",),
    ("feedforward", "inner_transformer"): (
        "stages.1.tokens=words(patch=2, word_dim=4, kernel=3, stride=1)",
        "stages.1.residual=pre_norm(norm=none)",
    ),
    ("attention", "messenger_window"): (f"stages.1.tokens={MESSENGERS}",),
    ("residual", "messenger_exchange"): (f"stages.1.tokens={MESSENGERS}",),
    ("head", "messengers"): (f"stages.1.tokens={MESSENGERS}",),
}

# The tokens of a stage between the two, for parts that read a set.
BETWEEN: dict[tuple[str, str], Part] = {
    ("tokens", "token_fuser"): Part("token_learner", count=3, hidden=8),
    ("tokens", "messenger_merging"): Part("messenger_conv", kernel=3, stride=1, padding=1, window=2, region=2),
}


def stages_around(first: Stage, last: Stage) -> tuple[Stage, ...]:
    """Both stages, and one between them where the tokens part of the last needs it."""
    between = BETWEEN.get(("tokens", last.tokens.name))
    return (first, last) if between is None else (first, replace(first, tokens=between), last)


@dataclass(frozen=True)
class Case:
    """A part with options, and what else a tiny model around it needs (edits by path)."""

    kind: str
    name: str
    chosen: Mapping[str, Any] = field(default_factory=dict)
    edits: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}-{Part(self.name, **self.chosen)}"

    @property
    def cls(self) -> type[nn.Module]:
        return part_class(self.kind, self.name)

    @property
    def acts(self) -> str:
        return getattr(self.cls, "acts", "tokens") if self.kind == "position" else ""

    @property
    def maps_tokens(self) -> bool:
        """Whether it is called with tokens and gives tokens: a head gives none, some positions act on logits."""
        return self.kind != "head" and self.acts not in ("none", "logits", "values")

    def architecture(self) -> Architecture:
        """Two stages of one block, the part in the last, so that a tokens part reads tokens."""
        known = options(self.kind, self.name)
        required = {key: REQUIRED[key] for key, p in known.items() if p.default is p.empty and key in REQUIRED}
        part = Part(self.name, **{**required, **self.chosen})
        attention = self._offering() if self.acts in ("logits", "values") else Part("global", heads=2)
        columns = {"tokens": Part("keep"), "attention": attention, "head": Part("class_token"), self.kind: part}
        head = columns.pop("head")
        first = Stage(16, 1, tokens=Part("conv", kernel=3, stride=2, padding=1), attention=Part("global", heads=2))
        last = Stage(16, 1, **columns)  # type: ignore[arg-type]  # columns by their names
        return Architecture("tiny", stages_around(first, last), head, num_classes=3, img_size=(12, 10)).override(
            self.edits
        )

    def _offering(self) -> Part:
        """An attention part that offers the place where this position part acts."""
        offering = [
            name
            for name in part_names("attention")
            if self.acts in getattr(part_class("attention", name), "offers", ())
        ]
        return Part(offering[0], heads=2)


def every_part() -> Iterator[Case]:
    """Each registered part with its defaults."""
    for kind in KINDS:
        for name in part_names(kind):
            yield Case(kind, name, SMALL.get((kind, name), {}), AROUND.get((kind, name), ()))


def where(applies: Callable[[Case], bool]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Ask a promise only of the cases to which it applies."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        test.applies = applies  # type: ignore[attr-defined]
        return test

    return mark


@pytest.mark.usefixtures("one_thread")
class PartContract:
    """One promise a test, for each of `cases`."""

    cases: tuple[Case, ...] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "case" in metafunc.fixturenames:
            applies = getattr(metafunc.function, "applies", lambda case: True)
            metafunc.parametrize("case", [case for case in self.cases if applies(case)], ids=str)

    @pytest.fixture
    def model(self, case: Case) -> Backbone:
        return build(case)

    @pytest.fixture
    def images(self) -> torch.Tensor:
        return torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(1))

    def test_its_docstring_has_paper_shapes_and_cost(self, case: Case) -> None:
        text = case.cls.__doc__ or ""
        assert "Shapes:" in text
        assert "Cost" in text
        assert any(f"{year}" in text for year in range(1980, 2040)), "its paper, with the year"

    def test_values_of_another_type_are_errors(self, case: Case) -> None:
        assert all(option.annotation is not option.empty for option in options(case.kind, case.name).values())

    def test_a_gradient_reaches_every_parameter(self, case: Case, model: Backbone, images: torch.Tensor) -> None:
        carried: list[torch.Tensor] = []  # what the last stage hands on beside its tokens is an output, too
        model.stages[-1].register_forward_hook(lambda _, __, out: carried.extend(out.carry.values()))
        outputs = every_output(model.train()(images))
        assert outputs[0].shape == (2, 3)
        outputs = (*outputs, *(tensor for tensor in carried if tensor.requires_grad))
        sum(output.square().sum() for output in outputs).backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert not [name for name, gradient in gradients.items() if gradient is None]
        assert all(gradient.isfinite().all() for gradient in gradients.values())

    @where(lambda case: case.maps_tokens)
    @pytest.mark.parametrize("img_size", [(12, 10), (13, 9), (9, 17)])
    def test_as_many_tokens_as_declared(self, case: Case, model: Backbone, img_size: tuple[int, int]) -> None:
        model.set_input_size(img_size)
        given, got = seen(case, model, torch.randn(2, 3, *img_size))
        declaring = model.stages[-1].blocks[0].attention if case.kind == "residual" else part_of(case, model)
        size = declaring.out_size(given.size) if hasattr(declaring, "out_size") else given.size
        assert got.size == size
        assert got.image.shape == (2, size[0] * size[1], 16)
        extra_out = getattr(part_of(case, model), "extra_out", lambda extra, size: extra)
        assert got.prefix == (extra_out(given.prefix, size) if case.kind == "tokens" else given.prefix)

    @where(lambda case: case.maps_tokens or case.kind == "head")
    def test_both_forms_give_the_same(self, case: Case, model: Backbone, images: torch.Tensor) -> None:
        given, _ = seen(case, model, images)
        split, joined = (call(case, model, tokens) for tokens in (given.split(), given.join()))
        torch.testing.assert_close(split, joined)

    # A residual's branch may read what it likes.
    @where(lambda case: (case.maps_tokens and case.kind != "residual") or case.kind == "head")
    def test_the_grid_is_read_only_where_that_is_declared(
        self, case: Case, model: Backbone, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A stage splits its tokens for parts that declare `reads_grid`; for others each reading would be a copy."""
        given, _ = seen(case, model, images)
        reads: list[Tokens] = []
        grid = Tokens.grid
        monkeypatch.setattr(Tokens, "grid", property(lambda tokens: reads.append(tokens) or grid.__get__(tokens)))
        call(case, model, given)
        assert not reads or getattr(case.cls, "reads_grid", False)

    def test_a_batch_of_one_keeps_its_axis(self, case: Case, model: Backbone, images: torch.Tensor) -> None:
        torch.testing.assert_close(model(images[:1]), model(images)[:1])

    def test_double_precision(self, case: Case, model: Backbone, images: torch.Tensor) -> None:
        single = model(images)
        double = model.double()(images.double())
        assert double.dtype == torch.float64
        torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-5)

    @where(lambda case: hasattr(case.cls, "macs"))  # a plain nn.Module has no cost formula
    def test_its_formula_is_what_is_counted(self, case: Case, model: Backbone) -> None:
        img_size = size = (13, 9)
        model.set_input_size(img_size)
        for stage in model.stages[:-1] if case.kind == "tokens" else model.stages:
            size = stage.tokens.out_size(size)
        # The class token enters behind the last stage's tokens part.
        extra = 0 if case.kind == "tokens" else model.num_extra_tokens
        if case.acts in ("logits", "values"):
            inside = model.stages[-1].blocks[0].attention.positions(size)
            expected = sum(part.macs_inside(size, scope) for part, scope in inside)
        else:
            expected = sum(part.macs(size, extra) for part in parts_of(case, model))
        place = ("head" if case.kind == "head" else str(len(model.stages) - 1), case.kind)
        assert profile(model, img_size=img_size).places.get(place, Cost()).macs == expected

    def test_captured_as_one_graph(self, case: Case, model: Backbone, images: torch.Tensor) -> None:
        torch._dynamo.reset()
        captured = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(captured(images), model(images))

    @where(lambda case: case.kind == "attention")
    def test_the_softmax_path_is_the_fused_path(self, case: Case, model: Backbone, images: torch.Tensor) -> None:
        fused = model(images)
        with softmax_path(model):
            torch.testing.assert_close(model(images), fused)

    @where(lambda case: case.kind == "attention" and issubclass(case.cls, Attention))
    def test_recorded_maps_are_probabilities(self, case: Case, model: Backbone, images: torch.Tensor) -> None:
        with record_attention(model) as maps:
            model(images)
        (attention,) = maps["stages.1.blocks.0.attention"]
        assert attention.ndim == 4
        assert attention.shape[0] % 2 == 0  # images, or images times windows
        if part_of(case, model).maps_are == "probabilities":
            torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))

    @where(lambda case: case.kind == "attention" and issubclass(case.cls, Attention))
    def test_its_maps_are_where_its_values_go(
        self, case: Case, model: Backbone, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Maps on the grid, for each query over all cells and extra tokens, against derivatives of the output."""
        tokens, reading, whole = maps_of(case, model, images[:1])
        if reading.query_grid != part_of(case, model).out_size(tokens.size):
            pytest.skip("the output is resized behind the attention")
        with_fixed_weights(part_of(case, model), case.name, monkeypatch)
        moves = derivatives(part_of(case, model), tokens)  # (out, in, channels)
        if case.name == "class_attention":  # image tokens pass
            moves, whole = moves[: tokens.prefix], whole[:, : tokens.prefix]
        seen = whole.abs().sum(dim=0)
        reached, moved = (each > 1e-7 * each.max() for each in (seen, moves.abs().amax(dim=2)))
        if case.chosen.get("method") == "pyramid" or case.chosen.get("gamma"):
            # A convolution adds neighbouring bins, and a ghost head its summands, which are not in the maps.
            assert not (reached & ~moved).any()
        elif case.name in NOT_ALL_MOVE:
            assert not (moved & (seen == 0)).any()
            assert (moved & reached).sum() > 0.3 * reached.sum()
        else:
            assert torch.equal(reached, moved)
        if case.name in NOT_LINEAR or case.chosen.get("gamma"):
            return
        # The derivative by a token is the sum over heads of its weight times a matrix of that head alone.
        alone = [*range(tokens.prefix), *(tokens.prefix + i for i in case.chosen.get("global_tokens", ()))]
        others = [i for i in range(len(moves)) if i not in alone]
        for rows in (alone, others):  # Longformer's global tokens have matrices of their own
            weights, sums = whole[:, rows].flatten(1).T.double(), moves[rows].flatten(0, 1).double()
            predicted = weights @ torch.linalg.lstsq(weights, sums, driver="gelsd").solution
            torch.testing.assert_close(predicted, sums, rtol=0, atol=1e-4 * float(moves.abs().max()))

    @where(lambda case: case.kind == "attention" and issubclass(case.cls, Attention))
    def test_its_maps_sum_to_one_and_combine(self, case: Case, model: Backbone, images: torch.Tensor) -> None:
        _, reading, whole = maps_of(case, model, images[:1])
        rows = reading.rows(torch.arange(reading.queries))
        torch.testing.assert_close(whole.sum(dim=2), rows[..., :-1].sum(dim=2), rtol=1e-4, atol=1e-5)
        asked = torch.zeros(reading.queries, dtype=torch.bool)
        for places in reading.places:
            asked[places.queries[places.queries >= 0]] = True
        if part_of(case, model).maps_are == "probabilities":
            asked = asked | bool(reading.part.extra_mean)
            torch.testing.assert_close(rows.sum(dim=2), asked.float().expand(rows.shape[:2]))
        factors = torch.linspace(-1, 1, reading.queries)
        torch.testing.assert_close(
            reading.combined(factors), torch.einsum("hqk,q->hk", rows, factors), rtol=1e-4, atol=1e-5
        )


def maps_of(case: Case, model: Backbone, image: torch.Tensor) -> tuple[Tokens, Reading, torch.Tensor]:
    """The tokens of the part, what is read of it, and its maps over extra tokens and cells (heads, queries, P + N)."""
    tokens, _ = seen(case, model, image)
    with torch.no_grad(), read_attention(model, attention_parts(model)) as readings:
        model(image)
    reading = next(each for each in readings if each.part is part_of(case, model))
    with torch.no_grad():
        cells, extra, _ = reading.on_cells(reading.rows(torch.arange(reading.queries)))
    return tokens, reading, torch.cat((extra, cells.flatten(2)), dim=2)


def every_output(given: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The outputs of a model in training: one, or those of a head with several classifiers."""
    return given if isinstance(given, tuple) else (given,)


def build(case: Case) -> Backbone:
    """The tiny model around a part, with weights that are the same every time."""
    torch.manual_seed(0)
    return Backbone(case.architecture()).eval()


def parts_of(case: Case, model: Backbone) -> list[nn.Module]:
    """The parts of the case in its model; none for position `none`, which is not built."""
    return [m for m in (*model.stages[-1].modules(), *model.head.modules()) if type(m) is case.cls]


def part_of(case: Case, model: Backbone) -> nn.Module:
    """The first of them."""
    return parts_of(case, model)[0]


def seen(case: Case, model: Backbone, images: torch.Tensor) -> tuple[Tokens, Tokens]:
    """The tokens that come into the part in a pass of the model, and what leaves it; for a head, what it reads."""
    found: list[tuple[Tokens, Tokens]] = []
    watched = model.stages[-1] if case.kind == "head" else part_of(case, model)
    handle = watched.register_forward_hook(lambda _, given, got: found.append((given[0], got)))
    model(images)
    handle.remove()
    given, got = found[0]
    return (got, got) if case.kind == "head" else (given, got)


def call(case: Case, model: Backbone, tokens: Tokens) -> torch.Tensor:
    """A part of any kind, on tokens."""
    part: Any = part_of(case, model)
    if case.kind == "head":
        return part.classify(part.pooled(part.features(tokens), tokens.prefix))
    if case.kind == "residual":
        return part(tokens, model.stages[-1].blocks[0].attention).sequence
    return part(tokens).sequence
