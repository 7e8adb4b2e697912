"""Blocks of any number of branches: built, run, edited, saved, counted; what does not fit raises."""

import pytest
import torch
from torch import Tensor, nn

import hexavit
from hexavit import Architecture, Branch, Part, Stage
from hexavit.errors import ArchitectureError
from hexavit.parts import registry
from hexavit.parts.contract import PartModule, Size, Tokens

pytestmark = pytest.mark.usefixtures("one_thread")

ATTENTION, MLP = Part("global", heads=2), Part("mlp", ratio=2.0)


class Widening(PartModule):
    """A linear from the width that comes in to the stage's; with `stride` on every other row and column."""

    needs = "raster"

    def __init__(self, in_dim: int, dim: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.proj = stride, nn.Linear(in_dim, dim)

    def forward(self, tokens: Tokens) -> Tokens:
        grid = tokens.grid[:, :: self.stride, :: self.stride]
        return Tokens.of_grid(self.proj(grid), None if tokens.extra is None else self.proj(tokens.extra))

    def out_size(self, size: Size) -> Size:
        return -(-size[0] // self.stride), -(-size[1] // self.stride)


class Messengers(PartModule):
    """Adds the mean of each row as an extra token."""

    brings_extra = True

    def extra_out(self, extra: int, size: Size) -> int:
        return extra + size[0]

    def forward(self, tokens: Tokens) -> Tokens:
        return tokens.with_extra(tokens.grid.mean(dim=2))


class FirstTokens(PartModule):
    """The first three tokens as a set."""

    makes = "set"

    def out_size(self, size: Size) -> Size:
        return 3, 1

    def forward(self, tokens: Tokens) -> Tokens:
        return Tokens(tokens.image[:, :3], (3, 1), layout="set")


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the parts above while a test runs."""
    for kind, name, cls in (
        ("attention", "test_widening", Widening),
        ("tokens", "test_messengers", Messengers),
        ("tokens", "test_first_tokens", FirstTokens),
    ):
        monkeypatch.setitem(registry._REGISTRIES[kind], name, cls)


def model(*stages: Stage, head: str = "pool", size: int = 16) -> hexavit.Backbone:
    torch.manual_seed(0)
    return hexavit.create_model(Architecture("mine", stages, Part(head), num_classes=3, img_size=(size, size))).eval()


def stage(dim: int = 8, depth: int = 1, tokens: str = "conv", **fields: object) -> Stage:
    part = Part("conv", kernel=4, stride=4) if tokens == "conv" else Part(tokens)
    return Stage(dim, depth, part, fields.pop("attention", ATTENTION), feedforward=MLP, **fields)  # type: ignore[arg-type]


def image(size: int = 16) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_the_common_block_is_two_branches_and_not_written() -> None:
    plain = Architecture("mine", (stage(),), Part("pool"))
    assert '"block"' not in plain.to_json()
    assert plain.stages[0].block == (Branch("attention"), Branch("feedforward"))


def test_a_block_of_attention_alone_has_no_feedforward() -> None:
    one = model(stage(block=(Branch("attention"),)))
    block = one.stages[0].blocks[0]
    assert not hasattr(block, "feedforward")
    tokens = torch.randn(1, 16, 8)
    expected = tokens + block.attention(Tokens(block.attention_residual.norm(tokens), (4, 4))).body
    torch.testing.assert_close(block(tokens, size=(4, 4)), expected)


def test_a_branch_between_the_two_has_its_own_part_and_residual() -> None:
    middle = Branch("feedforward", Part("mlp", ratio=1.0), Part("pre_norm", norm=None), name="local")
    block = model(stage(block=(Branch("attention"), middle, Branch("feedforward")))).stages[0].blocks[0]
    x = torch.randn(1, 16, 8)
    y = x + block.attention(Tokens(block.attention_residual.norm(x), (4, 4))).body
    y = y + block.local(Tokens(y, (4, 4))).body
    y = y + block.feedforward(Tokens(block.feedforward_residual.norm(y), (4, 4))).body
    torch.testing.assert_close(block(x, size=(4, 4)), y)
    assert isinstance(block.local_residual.norm, nn.Identity)


def test_a_parallel_branch_reads_what_the_one_before_it_read() -> None:
    beside = Branch("feedforward", residual=Part("pre_norm", norm=None), parallel=True)
    block = model(stage(block=(Branch("attention"), beside))).stages[0].blocks[0]
    x = torch.randn(1, 16, 8)
    y = x + block.attention(Tokens(block.attention_residual.norm(x), (4, 4))).body
    torch.testing.assert_close(block(x, size=(4, 4)), y + block.feedforward(Tokens(x, (4, 4))).body)


def test_a_residual_projects_and_pools_the_skip_of_a_branch_that_widens_and_shrinks() -> None:
    wider = stage(
        12, tokens="keep", attention=Part("test_widening", stride=2), residual=Part("pre_norm", pool_kernel=3)
    )
    built = model(stage(), wider)
    block = built.stages[1].blocks[0]
    x = torch.randn(1, 16, 8)
    normed = block.attention_residual.norm(x)
    skip = block.attention_residual.skip(normed).unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    skip = nn.functional.max_pool2d(skip, 3, 2, 1).flatten(2).transpose(1, 2)
    y = skip + block.attention(Tokens(normed, (4, 4))).body
    y = y + block.feedforward(Tokens(block.feedforward_residual.norm(y), (2, 2))).body
    torch.testing.assert_close(block(x, size=(4, 4)), y)
    assert built.feature_info == [
        {"num_chs": 8, "reduction": 4, "module": "stages.0"},
        {"num_chs": 12, "reduction": 8, "module": "stages.1"},
    ]
    assert built.num_features == 12
    assert built(image()).shape == (2, 3)


def test_a_batch_norm_counts_all_tokens_of_all_images() -> None:
    built = model(stage(residual=Part("pre_norm", norm="batch")))
    norm = built.stages[0].blocks[0].attention_residual.norm
    assert isinstance(norm, nn.BatchNorm2d)
    built.train()
    entered: list[Tensor] = []
    built.stages[0].input_map.register_forward_hook(lambda *args: entered.append(args[2]))
    built(image())
    torch.testing.assert_close(norm.running_mean, 0.1 * entered[0].mean(dim=(0, 2, 3)).detach())


def test_extra_tokens_of_the_grid_are_counted() -> None:
    built = model(stage(), stage(tokens="test_messengers"), size=16)
    assert built.num_extra_tokens == 4
    assert built.forward_features(image()).shape == (2, 4 + 16, 8)
    built.set_input_size((24, 16))
    assert built.num_extra_tokens == 6
    assert built.forward_features(torch.randn(1, 3, 24, 16)).shape == (1, 6 + 24, 8)


def test_a_stage_without_blocks_passes_its_tokens() -> None:
    built = model(stage(), stage(16, 0))
    assert [len(each.blocks) for each in built.stages] == [1, 0]
    assert built.forward_features(image()).shape == (2, 1, 16)
    assert [each["module"] for each in built.feature_info] == ["stages.0", "stages.1"]


def test_a_set_has_no_map() -> None:
    built = model(stage(), stage(tokens="test_first_tokens"))
    assert [each["reduction"] for each in built.feature_info] == [4, None]
    whole, some = built.forward_intermediates(image(), output_fmt="NLC", intermediates_only=True)
    assert (whole.shape, some.shape) == ((2, 16, 8), (2, 3, 8))
    assert built.forward_intermediates(image(), [0], intermediates_only=True)[0].shape == (2, 8, 4, 4)
    with pytest.raises(ArchitectureError, match=r"stages\.1.* gives a set, which has no map: use output_fmt='NLC'"):
        built.forward_intermediates(image())


def test_a_position_on_the_values_is_added_behind_the_softmax() -> None:
    built = model(stage(position=Part("lepe")))
    attention = built.stages[0].blocks[0].attention
    x = torch.randn(1, 16, 8)
    v = attention.qkv(x).chunk(3, dim=2)[2]
    extra = attention.value_position.conv(v.unflatten(1, (4, 4)).permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
    with_it = attention(Tokens(x, (4, 4))).body
    attention.value_position = None
    torch.testing.assert_close(with_it, attention(Tokens(x, (4, 4))).body + extra @ attention.proj.weight.t())


def test_logits_and_values_hold_a_position_each() -> None:
    both = stage(position=Part("relative_bias"), block=(Branch("attention", position=Part("lepe")), "feedforward"))
    attention = model(both).stages[0].blocks[0].attention
    assert type(attention.position).__name__ == "RelativeBias"
    assert type(attention.value_position).__name__ == "LocallyEnhanced"
    with pytest.raises(ArchitectureError, match="has two positions on its values"):
        model(stage(position=Part("lepe"), block=(Branch("attention", position=Part("lepe")),)))


def test_json_edits_and_differences_know_the_branches() -> None:
    middle = Branch("feedforward", Part("mlp", ratio=1.0), Part("pre_norm", norm="batch"), parallel=True, name="local")
    mine = Architecture("mine", (stage(block=("attention", middle)),), Part("pool"))
    assert Architecture.from_json(mine.to_json()) == mine
    edited = mine.override(["stages.0.block.local.part.ratio=3", "stages.*.block.1.residual.norm=none"])
    local = edited.stages[0].block[1]
    assert local.part == Part("mlp", ratio=3)
    assert local.residual == Part("pre_norm", norm=None)
    assert edited.override(["stages.0.block.local.residual=none"]).stages[0].block[1].residual is None  # the stage's
    assert [path for path, *_ in mine.diff(edited)] == ["stages.0.block.1.part.ratio", "stages.0.block.1.residual.norm"]
    plain = Architecture("mine", (stage(),), Part("pool"))
    grown = plain.override(["stages.0.block=(attention, mlp(ratio=1), feedforward)"])
    assert [branch.module for branch in grown.stages[0].block] == ["attention", "mlp", "feedforward"]
    assert ("stages.0.block", None, "attention, mlp, feedforward") in plain.diff(grown)
    assert "mlp: mlp" in grown.table()


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ((), "at least one Branch"),
        ((Branch("attention"), Branch("attention")), "give each a name of its own"),
        ((Branch("attention", parallel=True),), "none before it to be parallel to"),
        (("attenshun",), "a branch's kind is 'attention' or 'feedforward'"),
        ((Branch("attention"), Branch("feedforward", residual=Part("post_norm"), parallel=True)), "use pre_norm"),
    ],
)
def test_a_wrong_block_raises(block: tuple[Branch, ...], sentence: str) -> None:
    with pytest.raises(ArchitectureError, match=sentence):
        model(stage(block=block))


def test_a_grid_that_shrinks_needs_a_residual_that_changes_image_tokens() -> None:
    shrinking = stage(8, tokens="keep", attention=Part("pooling", heads=2, stride_q=2), residual=Part("extra_only"))
    with pytest.raises(ArchitectureError, match=r"shrinks the grid, and residual=extra_only leaves the image tokens"):
        model(stage(), shrinking, head="class_token")


def test_a_width_that_nothing_changes_raises() -> None:
    with pytest.raises(ArchitectureError, match=r"stages\.1\.tokens=keep gives it, and cannot change it to 12"):
        model(stage(), stage(12, tokens="keep"))
    with pytest.raises(ArchitectureError, match=r"changes the width from 8 to 12, which residual=post_norm cannot"):
        model(stage(), stage(12, tokens="keep", attention=Part("test_widening"), residual=Part("post_norm")))


def test_extra_tokens_that_pass_no_block_raise() -> None:
    with pytest.raises(ArchitectureError, match="enter at stage 1, from which on there is no block: use enter=0"):
        model(stage(), stage(depth=0, tokens="keep"), head="class_token")
