"""TokenLearner: "TokenLearner: What Can 8 Learned Tokens Do for Images and Videos?", Ryoo et al., NeurIPS 2021
(arXiv 2106.11297), with TokenFuser.

Origin: google-research/scenic, projects/token_learner (Apache-2.0), commit 4a38d47, in JAX. Names give the ViT, the
number of learned tokens and the block before which they are learned.

What is new against ViT: before one block, 8 or 16 tokens are learned of all: sums over the tokens, with weights that
are computed from them. Later blocks read these alone. With the fuser, every later block has a learner before it and a
fuser behind it, which adds what the block gave to all tokens.

Shapes at 224 with patches of 16: (B, 3, 224, 224) to (B, 196, C), to (B, S, C), to (B, 1000).

Cost: 0.662 G multiply-adds for `tokenlearner_ti16_tl8_at6` at 224, where ViT-Ti has 1.254 G.

Same as the authors' code: GELU is the tanh form; there is no class token; no stochastic depth, since the rate of their
configuration is not passed to the encoder.
Differs from the authors' code: version 1.0 accepts any H x W; theirs takes square maps.
"""

from __future__ import annotations

from collections.abc import Sequence

from hexavit.architecture import Architecture, Part, Stage
from hexavit.models.isotropic import vit_stage
from hexavit.models.registry import Family, Published
from hexavit.models.weights import INCEPTION_MEAN_STD, Preprocessing

PAPER = "https://arxiv.org/abs/2106.11297"


def token_learner(
    name: str,
    dim: int,
    depth: int,
    heads: int,
    tokens: int,
    at: int,
    *,
    version: str = "token_learner",
    fuser: bool = False,
    patch: int = 16,
    img_size: int = 224,
) -> Architecture:
    """A ViT with learned tokens.

    Args:
        name: of the model.
        dim: width.
        depth: number of blocks.
        heads: attention heads.
        tokens: number of learned tokens.
        at: number of the block before which they are learned, from 0.
        version: the tokens part.
        fuser: whether each block from `at` on has a learner before it and a fuser behind it.
        patch: side of a patch in pixels.
        img_size: side of the images.
    """
    act = Part("mlp", act="gelu_tanh")
    learner = Part(version, count=tokens)

    def stage(blocks: int, part: Part | None = None) -> Stage:
        later = {} if part is None else {"tokens": part, "position": Part("none")}
        return vit_stage(dim, blocks, heads, patch=patch, feedforward=act, **{"position": Part("learned"), **later})

    after: Sequence[Stage] = [stage(depth - at, learner)]
    if fuser:
        after = [stage(1, learner), stage(0, Part("token_fuser"))] * (depth - at)
    return Architecture(name, (stage(at), *after), Part("pool"), img_size=(img_size, img_size))


_SIZES = {"ti": (192, 12, 3), "s": (384, 12, 6), "b": (768, 12, 12)}
_FAMILY = Family("token_learner", PAPER, Preprocessing(*INCEPTION_MEAN_STD))
_CODE = "google-research/scenic, the default configuration"

# ViT, number of tokens, block, version, fuser, end of the name
_VARIANTS = (
    ("ti", 8, 6, "token_learner", False, ""),
    ("ti", 8, 6, "token_learner_v1", False, "_v1"),
    ("ti", 8, 9, "token_learner", True, "_fuser"),
    ("s", 16, 9, "token_learner", False, ""),
    ("b", 16, 9, "token_learner", False, ""),
)
for _size, _tokens, _at, _version, _fuser, _end in _VARIANTS:
    _FAMILY.register(
        token_learner(
            f"tokenlearner_{_size}16_tl{_tokens}_at{_at}{_end}",
            *_SIZES[_size],
            _tokens,
            _at,
            version=_version,
            fuser=_fuser,
        ),
        f"ViT-{_size.capitalize()}/16 with {_tokens} learned tokens before block {_at}",
        *([Published(_CODE, 224)] if _size == "b" else []),
    )
_FAMILY.register_nano(
    token_learner("tokenlearner_nano", 96, 4, 3, 8, 2, fuser=True, patch=8, img_size=32),
    "TokenLearner with fusers at half a million",
)
