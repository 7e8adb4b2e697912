"""DeiT's hard and soft distillation."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from hexavit.errors import HexavitError


class Distillation(nn.Module):
    """Cross-entropy on the class logits, distillation on the distillation logits.

    DeiT: Touvron et al., ICML 2021, section 4.

    loss = (1 - alpha) base(class logits, target) + alpha D(distillation logits, teacher logits). D is the cross-entropy
    with the teacher's most probable class (`hard`), or tau^2 KL(teacher || student) of softmaxes at temperature tau
    (`soft`).

    A model with one output has its logits in both terms, as in the paper's distillation without a token (table 3) and
    in Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.

    Args:
        base: loss of the class logits against the labels.
        kind: `hard` (alpha 0.5 in the published distilled models) or `soft` (alpha 0.1, tau 3 in the paper).
        alpha: weight of the distillation term.
        tau: temperature of `soft`.

    Shapes:
        logits: (class, distillation), each (B, K), or (B, K) for both; teacher (B, K); loss ().

    Same as facebookresearch/deit's `DistillationLoss`: `soft` divides by B K, not by B.

    Raises:
        HexavitError: an option is not valid; on a call, the second output is of tokens.
    """

    def __init__(
        self, base: nn.Module, kind: Literal["hard", "soft"] = "hard", alpha: float = 0.5, tau: float = 1.0
    ) -> None:
        super().__init__()
        if kind not in ("hard", "soft") or not 0 <= alpha <= 1 or tau <= 0:
            raise HexavitError(
                f"distillation is hard or soft, its alpha in [0, 1], its tau above 0, not {kind}, {alpha}, {tau}"
            )
        self.base, self.kind, self.alpha, self.tau = base, kind, alpha, tau

    def forward(self, logits: tuple[Tensor, Tensor] | Tensor, target: Tensor, teacher: Tensor) -> Tensor:
        class_logits, distilled = (logits, logits) if isinstance(logits, Tensor) else logits
        if distilled.ndim != 2:
            raise HexavitError(
                "distillation needs class and distillation logits, (B, K) each: use head=two_heads, or a head with one "
                f"output; the second output of this model is of shape {tuple(distilled.shape)}"
            )
        if self.kind == "hard":
            term = F.cross_entropy(distilled.float(), teacher.argmax(dim=1))
        else:
            student, wanted = ((x.float() / self.tau).log_softmax(dim=1) for x in (distilled, teacher))
            term = F.kl_div(student, wanted, reduction="sum", log_target=True) * self.tau**2 / student.numel()
        loss: Tensor = (1 - self.alpha) * self.base(class_logits, target) + self.alpha * term
        return loss
