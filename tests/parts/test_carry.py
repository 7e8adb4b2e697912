"""What parts pass on to one another, and errors, with small parts written here."""

from collections.abc import Iterator

import pytest
import torch
from tests.parts.contract import AROUND, REQUIRED, SMALL, stages_around
from torch import Tensor, nn

from hexavit import Architecture, Backbone, HexavitError, Part, PartModule, Pattern, Stage, Tokens, register_part
from hexavit.architecture import COLUMNS
from hexavit.network.composition import as_tokens
from hexavit.parts import Attention, options, part_class, part_names
from hexavit.parts.attention.base import split_heads

pytestmark = pytest.mark.usefixtures("restored_registries", "one_thread")

PATCH = Part("conv", kernel=4, stride=4, norm=False)


def one_stage(depth: int = 2, head: Part | None = None, **columns: Part | Pattern) -> Architecture:
    given = {"tokens": PATCH, "attention": Part("global", heads=2), **columns}
    stage = Stage(dim=8, depth=depth, **given)
    return Architecture("toy", (stage,), head or Part("pool"), num_classes=3, img_size=(16, 12))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 12, generator=torch.Generator().manual_seed(0))


def test_a_value_travels_from_block_to_block(images: Tensor) -> None:
    """Attention logits that each block adds to the next one's (as RealFormer and HRFormer's relatives do)."""

    @register_part("attention", "residual_logits")
    class ResidualLogits(Attention):
        gives = ("logits",)

        def __init__(self, dim: int, *, heads: int) -> None:
            super().__init__()
            self.heads, self.qkv = heads, nn.Linear(dim, 3 * dim)

        def forward(self, tokens: Tokens) -> Tokens:
            q, k, v = (split_heads(x, self.heads) for x in self.qkv(tokens.sequence).chunk(3, dim=2))
            logits = q @ k.transpose(-2, -1) + tokens.carry.get("logits", 0)
            out = Tokens(self.attend(q, k, v, scale=0.0, bias=logits), tokens.size, prefix=tokens.prefix)
            return out.with_carry(**{**tokens.carry, "logits": logits})

    model = Backbone(one_stage(depth=3, attention=Part("residual_logits", heads=2)))
    seen: list[Tensor] = []
    for block in model.stages[0].blocks:
        block.register_forward_hook(lambda _, __, out: seen.append(out[1]))
    model(images).sum().backward()
    assert len(seen) == 3
    assert model.stages[0].blocks[0].attention.qkv.weight.grad is not None
    assert not torch.equal(seen[0], seen[1])
    again, model.stages[0].grad_checkpointing = model(images), True
    torch.testing.assert_close(model(images), again)


def test_a_missing_input_is_an_error() -> None:
    @register_part("tokens", "source")
    class Source(PartModule):
        gives = ("words",)

    @register_part("feedforward", "reader")
    class Reader(PartModule):
        takes = ("words",)

    sentence = r"stages.0.feedforward=reader takes 'words', which no part before it gives"
    with pytest.raises(HexavitError, match=sentence):
        Backbone(one_stage(feedforward=Part("reader")))
    with pytest.raises(HexavitError, match="takes 'words'"):  # given too late: the second block's comes first
        Backbone(one_stage(feedforward=Pattern([Part("mlp")], at={0: Part("reader")}), residual=Part("pre_norm")))
    Backbone(one_stage(tokens=Part("source"), feedforward=Part("reader")))


def test_what_a_stage_gives_the_next_may_take(images: Tensor) -> None:
    """A class token of every block, gathered for a later stage, as CeiT's head reads them."""

    @register_part("feedforward", "gather")
    class Gather(PartModule):
        gives = ("first_rows",)

        def forward(self, tokens: Tokens) -> Tokens:
            held = tokens.carry.get("first_rows")
            row = tokens.sequence[:, :1]
            return tokens.with_carry(first_rows=row if held is None else torch.cat((held, row), dim=1))

    @register_part("feedforward", "read")
    class Read(PartModule):
        takes = ("first_rows",)

        def forward(self, tokens: Tokens) -> Tokens:
            mean = tokens.carry["first_rows"].mean(dim=1, keepdim=True)
            return tokens.each(lambda x: x + mean)

    pattern = Pattern([Part("gather")], at={-1: Part("read")})
    model = Backbone(one_stage(depth=4, head=Part("class_token"), feedforward=pattern))
    kept: list[Tensor] = []
    model.stages[0].blocks[-1].feedforward.register_forward_hook(
        lambda _, given, __: kept.append(given[0].carry["first_rows"])
    )
    assert model(images).shape == (2, 3)
    assert kept[0].shape == (2, 3, 8)


def test_what_is_carried_passes_every_part_that_does_not_know_it(images: Tensor) -> None:
    @register_part("position", "label")
    class Label(PartModule):
        acts = "tokens"
        gives = ("label",)

        def forward(self, tokens: Tokens) -> Tokens:
            return tokens.with_carry(label=torch.arange(2))

    for kind, part in every_other_part():
        columns = {"tokens": Part("keep"), "attention": Part("global", heads=2), kind: part}
        first = Stage(8, 1, tokens=PATCH, attention=Part("global", heads=2), position=Part("label"))
        stages = stages_around(first, Stage(8, 1, **columns))
        toy = Architecture("toy", stages, Part("class_token"), img_size=(16, 12))
        model = Backbone(toy.override(AROUND.get((kind, part.name), ())))
        tokens = as_tokens(images)
        for stage in model.stages:
            tokens = stage(tokens)
        assert torch.equal(tokens.carry["label"], torch.arange(2)), (kind, part)


def every_other_part() -> Iterator[tuple[str, Part]]:
    """Each part of each column, with its required options."""
    for kind in COLUMNS:
        for name in part_names(kind):
            needed = {key: REQUIRED[key] for key, p in options(kind, name).items() if p.default is p.empty}
            if getattr(part_class(kind, name), "acts", "none") not in ("logits", "values"):
                yield kind, Part(name, **needed, **SMALL.get((kind, name), {}))


def test_each_block_has_the_part_of_its_number() -> None:
    small, wide = Part("mlp", ratio=1), Part("mlp", ratio=2)
    model = Backbone(one_stage(depth=5, feedforward=Pattern([small, wide], at={-1: small, 2: wide})))
    assert [block.feedforward.fc1.out_features for block in model.stages[0].blocks] == [8, 16, 16, 16, 8]


def test_a_set_has_no_grid_to_convolve() -> None:
    @register_part("tokens", "learner")
    class Learner(PartModule):
        """Four tokens, wherever they come from."""

        makes = "set"

        def __init__(self, in_dim: int, dim: int) -> None:
            super().__init__()
            self.linear = nn.Linear(in_dim, 4)

        def out_size(self, size: tuple[int, int]) -> tuple[int, int]:
            return 4, 1

        def forward(self, tokens: Tokens) -> Tokens:
            weights = self.linear(tokens.image).softmax(dim=1)  # (B, N, 4)
            return Tokens(weights.transpose(1, 2) @ tokens.image, (4, 1), layout="set")

    def learned(attention: Part) -> Architecture:
        base = one_stage(depth=1)
        last = Stage(dim=8, depth=1, tokens=Part("learner"), attention=attention)
        return base.with_(stages=(*base.stages, last))

    sentence = (
        r"stages.1.attention=conv_projection\(heads=2\) reads a raster, and stages.1.tokens=learner gives a set: "
        "change one of the two"
    )
    with pytest.raises(HexavitError, match=sentence):
        Backbone(learned(Part("conv_projection", heads=2)))
    assert Backbone(learned(Part("global", heads=2)))(torch.randn(1, 3, 16, 12)).shape == (1, 3)


def test_a_bias_needs_attention_that_offers_its_logits(images: Tensor) -> None:
    @register_part("position", "diagonal")
    class Diagonal(PartModule):
        """A learned liking of each head for the token itself."""

        acts = "logits"

        def __init__(self, heads: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(heads))

        def forward(self, count: int) -> Tensor:
            return self.weight[:, None, None] * torch.eye(count)

    @register_part("attention", "biased")
    class Biased(Attention):
        offers = frozenset({"logits"})

        def __init__(self, dim: int, *, heads: int) -> None:
            super().__init__()
            self.heads, self.qkv = heads, nn.Linear(dim, 3 * dim)

        def forward(self, tokens: Tokens) -> Tokens:
            q, k, v = (split_heads(x, self.heads) for x in self.qkv(tokens.sequence).chunk(3, dim=2))
            bias = None if self.position is None else self.position(q.shape[2])
            return Tokens(self.attend(q, k, v, scale=0.5, bias=bias), tokens.size, prefix=tokens.prefix)

    sentence = r"diagonal acts on the attention's logits, which stages.0.attention=performer\(heads=2\) does not offer"
    with pytest.raises(HexavitError, match=sentence):
        Backbone(one_stage(position=Part("diagonal"), attention=Part("performer", heads=2)))
    model = Backbone(one_stage(position=Part("diagonal"), attention=Part("biased", heads=2)))
    model(images).sum().backward()
    assert all(block.attention.position.weight.grad is not None for block in model.stages[0].blocks)
    assert Backbone(one_stage(attention=Part("biased", heads=2)))(images).shape == (2, 3)
