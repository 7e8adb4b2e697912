"""TokenLearner's tensors as its authors name them: flax's names, and the same under PyTorch's names and shapes.

Blocks, learners and fusers are numbered through the whole model there, and stand in stages here.
"""

from __future__ import annotations

from typing import Any

from hexavit.architecture import Architecture
from hexavit.models.key_tables import HWIO, As, Table
from hexavit.models.layouts import Layout, State, numbered_through
from hexavit.models.vit.keys import FLAX_BY_CLASS, flax_dense, flax_encoder, flax_norm


def places(architecture: Architecture) -> dict[str, str]:
    """Where the numbered blocks, learners and fusers stand in an architecture."""
    found = numbered_through(architecture)
    for kind, name in {"learners": "token_learner", "learners_v1": "token_learner_v1", "fusers": "token_fuser"}.items():
        stages = (i for i, stage in enumerate(architecture.stages) if stage.tokens.name == name)
        found |= {f"{kind}.{k}": f"stages.{i}.tokens" for k, i in enumerate(stages)}
    return found


def _modules(scope: str) -> Table:
    """The learners and fusers, which are in a scope."""
    table: dict[str | tuple[str, ...], Any] = {}
    for module, kind in (("TokenLearnerModuleV11", "learners"), ("TokenLearnerModule", "learners_v1")):
        table |= flax_norm(f"{scope}{module}_{{}}/LayerNorm_0", f"{kind}.{{}}.norm")
    learner = f"{scope}TokenLearnerModuleV11_{{}}/token_masking"
    table |= flax_dense(f"{learner}/Dense_0", "learners.{}.fc1")
    table |= flax_dense(f"{learner}/Dense_1", "learners.{}.fc2")
    table[f"{scope}TokenLearnerModule_{{}}/Conv_{{}}/kernel"] = As("learners_v1.{}.convs.{}.weight", HWIO)
    fuser = f"{scope}TokenFuser_{{}}"
    table |= {
        **flax_norm(f"{fuser}/fuser_mix_norm1", "fusers.{}.norm1"),
        **flax_dense(f"{fuser}/Dense_0", "fusers.{}.mix"),
        **flax_norm(f"{fuser}/fuser_mix_norm2", "fusers.{}.norm2"),
        **flax_norm(f"{fuser}/LayerNorm_0", "fusers.{}.norm3"),
        **flax_dense(f"{fuser}/token_masking/Dense_0", "fusers.{}.fc1"),
        **flax_dense(f"{fuser}/token_masking/Dense_1", "fusers.{}.fc2"),
    }
    return table


FLAX: Table = {
    **flax_encoder("blocks.{}", *FLAX_BY_CLASS),
    **_modules("Transformer/"),
    **_modules(""),
    **flax_dense("output_projection", "head.fc"),
}
_PYTORCH: Table = {
    "pos_embed": "stages.0.position.table",
    "patch_embed.proj.*": "stages.0.tokens.conv.*",
    "blocks.{}.norm1.*": "blocks.{}.attention_residual.norm.*",
    "blocks.{}.attn.qkv.*": "blocks.{}.attention.qkv.*",
    "blocks.{}.attn.proj.*": "blocks.{}.attention.proj.*",
    "blocks.{}.norm2.*": "blocks.{}.feedforward_residual.norm.*",
    "blocks.{}.mlp.fc1.*": "blocks.{}.feedforward.fc1.*",
    "blocks.{}.mlp.fc2.*": "blocks.{}.feedforward.fc2.*",
    **{f"token_fusers.{{}}.{name}.*": f"fusers.{{}}.{name}.*" for name in ("norm1", "mix", "norm2", "norm3")},
    "token_fusers.{}.mlp.fc1.*": "fusers.{}.fc1.*",
    "token_fusers.{}.mlp.fc2.*": "fusers.{}.fc2.*",
    "norm.*": "head.norm.*",
    "head.*": "head.fc.*",
}
PYTORCH: Table = {
    **_PYTORCH,
    "token_learners.{}.norm.*": "learners.{}.norm.*",
    "token_learners.{}.mlp.fc1.*": "learners.{}.fc1.*",
    "token_learners.{}.mlp.fc2.*": "learners.{}.fc2.*",
}
"""timm's names for a ViT, with learners and fusers beside the blocks."""
PYTORCH_V1: Table = {
    **_PYTORCH,
    "token_learners.{}.norm.*": "learners_v1.{}.norm.*",
    "token_learners.{}.convs.{}.weight": "learners_v1.{}.convs.{}.weight",
}
_ONLY = {
    "attention": ("global",),
    "attention.head_dim": ("none",),
    "attention.qkv_bias": ("true",),
    "feedforward": ("mlp",),
    "feedforward.act": ("gelu_tanh",),
    "residual": ("pre_norm",),
    "position": ("learned", "none"),
    "head": ("pool",),
    "norm_eps": ("1e-06",),
}
LAYOUTS = (
    Layout("authors", "token_learner", FLAX, only=_ONLY, suffixes=(".npz",), places=places),
    *(
        Layout(
            "authors", "token_learner", table, only={**_ONLY, "tokens": ("conv", name, "token_fuser")}, places=places
        )
        for table, name in ((PYTORCH, "token_learner"), (PYTORCH_V1, "token_learner_v1"))
    ),
)


def edits(state: State, architecture: Architecture) -> list[str]:
    """The overrides that another number of learned tokens, or of hidden values, requires."""
    found = []
    for i, stage in enumerate(architecture.stages):
        here, known = f"stages.{i}.tokens", stage.tokens.options
        last = state.get(f"{here}.fc2.weight") if stage.tokens.name == "token_learner" else None
        last = state.get(f"{here}.convs.0.weight") if stage.tokens.name == "token_learner_v1" else last
        if last is not None and last.ndim >= 2 and last.shape[0] != known["count"]:
            found.append(f"{here}.count={last.shape[0]}")
        if (first := state.get(f"{here}.fc1.weight")) is not None and first.shape[0] != known.get("hidden", 64):
            found.append(f"{here}.hidden={first.shape[0]}")
    return found
