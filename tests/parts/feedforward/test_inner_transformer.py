"""TNT's words against a computation patch by patch; what does not fit raises."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hexavit
from hexavit import Architecture, Branch, Part, Stage, Tokens
from hexavit.errors import ArchitectureError
from hexavit.parts.feedforward import ExcitedMLP, InnerTransformer
from hexavit.parts.tokens import WordTokens

pytestmark = pytest.mark.usefixtures("one_thread")


def stirred(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("whole", [False, True])
def test_words_are_a_convolution_of_each_patch(whole: bool) -> None:
    part = stirred(WordTokens(3, 10, (17, 13), 1e-5, patch=4, word_dim=5, kernel=3, stride=2, whole=whole))
    x = image(2, 3, 17, 13)
    out = part(Tokens.of_map(x))
    assert (out.size, out.image.shape, out.carry["words"].shape) == ((4, 3), (2, 12, 10), (2, 12, 4, 5))
    over_all = F.conv2d(x, part.conv.weight, part.conv.bias, stride=2, padding=1)
    for row, column in ((0, 0), (3, 2), (2, 1)):
        if whole:
            found = over_all[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        else:
            cut = x[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            found = F.conv2d(cut, part.conv.weight, part.conv.bias, stride=2, padding=1)
        words = torch.stack([found[:, :, k // 2, k % 2] + part.table[0, k] for k in range(4)], dim=1)
        torch.testing.assert_close(out.carry["words"][:, 3 * row + column], words)
        token = part.norm2(part.norm1(words.reshape(2, 20)) @ part.proj.weight.t() + part.proj.bias)
        torch.testing.assert_close(out.image[:, 3 * row + column], token)


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("joined", [False, True])
def test_the_inner_transformer_is_a_transformer_block_in_each_patch(each: bool, joined: bool) -> None:
    count, dim, inner = 4, 10, 6
    part = stirred(InnerTransformer(dim, {"words": (count, inner)}, 1e-5, 0.0, heads=2, ratio=2.0, each=each))
    words = image(2, 3, count, inner)
    given = Tokens(image(2, 3, dim), (3, 1), extra=image(2, 1, dim), carry={"words": words})
    out = part(given.join() if joined else given)
    assert out.joined is joined
    assert torch.equal(out.extra, torch.zeros(2, 1, dim))
    for b, n in ((0, 0), (1, 2)):
        y = words[b, n]
        normed = F.layer_norm(y, (inner,), part.attention_residual.norm.weight, part.attention_residual.norm.bias)
        q, k, v = (normed @ part.attention.qkv.weight.t()).chunk(3, dim=1)
        heads = [slice(0, 3), slice(3, 6)]
        mixed = torch.cat([(q[:, h] @ k[:, h].t() / 3**0.5).softmax(1) @ v[:, h] for h in heads], dim=1)
        y = y + part.attention.proj(mixed)
        normed = F.layer_norm(y, (inner,), part.feedforward_residual.norm.weight, part.feedforward_residual.norm.bias)
        y = y + part.feedforward.fc2(F.gelu(part.feedforward.fc1(normed)))
        torch.testing.assert_close(out.carry["words"][b, n], y)
        if each:
            expected = part.proj(part.norm1(y).reshape(-1))
        else:
            expected = part.norm2(part.norm1(y.reshape(-1)) @ part.proj.weight.t())
        torch.testing.assert_close(out.image[b, n], expected)


def test_excitation_weighs_channels_by_the_mean_of_all_tokens() -> None:
    part = stirred(ExcitedMLP(8, 1e-5, ratio=2.0, reduction=2))
    x = image(2, 5, 8)
    t = part.fc2(F.gelu(part.fc1(x)))
    norm, first, _, second, _ = part.excite
    a = torch.tanh(second(torch.relu(first(norm((t[:, 0] + t[:, 1] + t[:, 2] + t[:, 3] + t[:, 4]) / 5)))))
    out = part(Tokens(x[:, 1:], (2, 2), extra=x[:, :1]))
    torch.testing.assert_close(out.sequence, t + a[:, None] * t)


WORDS = Part("words", patch=4, word_dim=4, kernel=3, stride=2)
INNER = Part("inner_transformer", heads=2)
BARE = Part("pre_norm", norm=None, stochastic_depth=False)


def pyramid(*tokens: Part, block: tuple[Branch, ...]) -> Architecture:
    stages = tuple(Stage(8 * (i + 1), 1, part, Part("global", heads=2), block=block) for i, part in enumerate(tokens))
    return Architecture("pyramid", stages, Part("pool"), num_classes=3, img_size=(16, 16))


def test_words_in_two_stages_of_a_pyramid() -> None:
    block = (Branch("feedforward", INNER, BARE, name="words"), Branch("attention"), Branch("feedforward"))
    later = Part("words", patch=2, word_dim=6, kernel=3, stride=1)
    model = hexavit.create_model(pyramid(WORDS, later, block=block))
    model.train()(image(2, 3, 16, 16)).square().sum().backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert model.stages[1].blocks[0].words.proj.weight.shape == (16, 4 * 6)


def test_words_of_another_grid_raise() -> None:
    block = (Branch("feedforward", INNER, BARE, name="words"), Branch("attention"), Branch("feedforward"))
    with pytest.raises(ArchitectureError, match=r"stages\.1\.blocks\.0\.words=.*there are no words for this grid"):
        hexavit.create_model(pyramid(WORDS, Part("conv", kernel=2, stride=2), block=block))
    with pytest.raises(ArchitectureError, match=r"takes 'words', which no part before it gives: use words in place of"):
        hexavit.create_model(pyramid(Part("conv", kernel=2, stride=2), block=block))
    part = InnerTransformer(8, {"words": (4, 4)}, 1e-5, 0.0, heads=2)
    with pytest.raises(ArchitectureError, match="the words are those of 3 patches, and there are 2 tokens"):
        part(Tokens(image(1, 2, 8), (2, 1), carry={"words": image(1, 3, 4, 4)}))


def test_words_are_of_image_tokens_alone() -> None:
    last = Stage(8, 1, WORDS, Part("class_attention", heads=2), feedforward=INNER, residual=Part("extra_only"))
    with pytest.raises(ArchitectureError, match="takes words of the image tokens, and residual=extra_only gives it"):
        hexavit.create_model(Architecture("mine", (last,), Part("class_token"), img_size=(16, 16)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kernel": 4}, "kernel is odd"),
        ({"patch": 0}, "at least 1"),
        ({"patch": 6, "whole": True}, "the stride divides"),
    ],
)
def test_wrong_sizes_raise(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        WordTokens(3, 8, (16, 16), 1e-5, **options)
