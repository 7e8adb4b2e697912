"""TNT's tokens: patches, and in each patch a few words that a transformer of its own mixes in every block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hexavit.errors import ArchitectureError
from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.layers import ComputedBuffers
from hexavit.parts.registry import register_part


@register_part("tokens", "words")
class WordTokens(ComputedBuffers, PartModule):
    """Patches and the words in them (TNT: Han et al., "Transformer in Transformer", NeurIPS 2021, section 2.2).

    New in it: each patch is cut out and convolved on its own, with zeros around it, to a small map of M words of width
    c; a learned table, the same for every patch, is added to them. The patch's token is norm(linear(norm(words))), of
    all its words side by side. The words travel in `carry` to the feedforward `inner_transformer` of each block.

    Args:
        in_dim: C_in.
        dim: C.
        size: grid of the tokens that come in.
        norm_eps: epsilon of the norms.
        patch: side of a patch.
        word_dim: c.
        kernel: odd side of the convolution, which is padded by half of it.
        stride: of the convolution; a patch has M = ceil(patch / stride)^2 words.
        whole: convolve the whole image, then cut it into patches (TNT's first release).
        unused: count a table (1, N, C) of zeros that nothing reads: the authors' state dict has it.

    Shapes: (B, H, W, C_in) to (B, H // patch, W // patch, C), with words (B, N, M, c). Cost: parameters
    kernel^2 C_in c + c, M c of the table, M c C + C, 2 M c + 2 C of norms; multiply-adds
    N M c (kernel^2 C_in + C); with `whole` the convolution passes what fills no patch, too.
    Same as huawei-noah/Efficient-AI-Backbones' `PatchEmbed` and timm's `PixelEmbed`. Rows and columns that fill no
    whole patch are left out; theirs take images of one size.

    Raises:
        ValueError: an even kernel, a size below 1, or `whole` with a patch that the stride does not divide.
        ArchitectureError: on a call, a grid that is smaller than a patch.
    """

    reads_grid = True
    needs = "raster"
    keeps_extra = False
    first_conv = "conv"
    gives = ("words",)
    no_decay = ("table",)
    constants = ("unused_table",)

    def __init__(
        self,
        in_dim: int,
        dim: int,
        size: Size,
        norm_eps: float,
        *,
        patch: int = 16,
        word_dim: int = 24,
        kernel: int = 7,
        stride: int = 4,
        whole: bool = False,
        unused: bool = False,
    ) -> None:
        super().__init__()
        if min(patch, word_dim, kernel, stride) < 1 or kernel % 2 == 0:
            raise ValueError(
                f"patch, word_dim and stride are at least 1 and kernel is odd, not {patch}, {word_dim}, {stride} and "
                f"{kernel}"
            )
        if whole and patch % stride:
            raise ValueError(f"whole=true needs a patch that the stride divides, not patch={patch}, stride={stride}")
        self.dim, self.size, self.patch, self.whole, self.unused = dim, size, patch, whole, unused
        self.stride, self.side = stride, -(-patch // stride)
        count = self.side**2
        self.given_shapes = {"words": (count, word_dim)}
        self.conv = nn.Conv2d(in_dim, word_dim, kernel, stride=stride, padding=kernel // 2)
        self.table = nn.Parameter(torch.empty(1, count, word_dim))
        nn.init.trunc_normal_(self.table, std=0.02)
        self.norm1 = nn.LayerNorm(count * word_dim, eps=norm_eps)
        self.proj = nn.Linear(count * word_dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.init_non_persistent_buffers()

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, H, W, C_in) to (B, H // patch, W // patch, C)."""
        h, w = self.out_size(tokens.size)
        if not torch.compiler.is_compiling() and min(h, w) < 1:
            raise ArchitectureError(
                f"a grid of {tokens.size[0]} x {tokens.size[1]} is too small for patches of {self.patch} x {self.patch}"
            )
        image = tokens.map
        words = (
            _cut(self.conv(image), self.side) if self.whole else self.conv(_cut(image, self.patch))
        )  # (B N, c, s, s)
        words = words.flatten(2).transpose(-2, -1).contiguous() + self.table
        words = words.unflatten(0, (image.shape[0], h * w))
        patches = self.norm2(self.proj(self.norm1(words.flatten(2))))
        return Tokens(patches, (h, w), carry={**tokens.carry, "words": words})

    def out_size(self, size: Size) -> Size:
        """(H // patch, W // patch); with `whole` as many patches as the convolution's map fills."""
        if self.whole:
            return tuple(-(-n // self.stride) // self.side for n in size)  # type: ignore[return-value]  # two numbers
        return size[0] // self.patch, size[1] // self.patch

    def set_size(self, size: Size) -> None:
        """Make the unused table for another grid."""
        self.size = size
        self.init_non_persistent_buffers()

    def computed_buffers(self) -> dict[str, Tensor]:
        """The unused table, if it is counted."""
        h, w = self.out_size(self.size)
        return {"unused_table": torch.zeros(1, max(h * w, 0), self.dim)} if self.unused else {}

    def macs(self, size: Size, extra: int = 0) -> int:
        """N M c (kernel^2 C_in + C), and with `whole` the convolution where it fills no patch."""
        h, w = self.out_size(size)
        words = -(-size[0] // self.stride) * -(-size[1] // self.stride) if self.whole else h * w * self.side**2
        return words * self.conv.weight.numel() + h * w * self.proj.weight.numel()


def _cut(image: Tensor, side: int) -> Tensor:
    """(B, C, H, W) to its squares, row by row: (B h w, C, side, side). What fills no whole square is left out."""
    squares = image.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5)  # (B, h, w, C, side, side)
    return squares.flatten(0, 2)
