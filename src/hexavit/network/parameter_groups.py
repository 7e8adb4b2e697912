"""Groups of parameters for weight decay and for learning rates by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hexavit.network.backbone import Backbone

_STEM = r"^stages\.0\.(?:tokens|position|class_token|shared)"
STAGES: dict[str, Any] = {"stem": _STEM, "blocks": r"^stages\.(\d+)"}
"""A stem, then stages, in timm's form."""
BLOCKS: dict[str, Any] = {
    "stem": _STEM,
    "blocks": [
        (r"^stages\.(\d+)\.(?:tokens|position|class_token|shared)", (-1,)),
        (r"^stages\.(\d+)\.blocks\.(\d+)", None),
        (r"^stages\.(\d+)\.norm", (99999,)),
        (r"^head\.(?:norm|fc_norm|pre_logits)", (99999,)),
    ],
}
"""A stem, then blocks, in timm's form."""


def no_weight_decay(model: Backbone) -> set[str]:
    """Names of parameters that are exempt from weight decay, besides all of one dimension."""
    stages = enumerate(() if getattr(model.head, "decay", False) else model.stage_modules)
    names = {f"stages.{i}.class_token" for i, stage in stages if stage.class_token is not None}
    for path, module in model.named_modules():
        exempt = set(getattr(module, "no_decay", ()))
        names.update(f"{path}.{name}" for name, _ in module.named_parameters() if name in exempt)
    return names
