"""Learning from a teacher's answers: DeiT's hard and soft distillation."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from hexavit.errors import HexavitError


class Distillation(nn.Module):
    """Labels for the class token, a teacher for the distillation token (DeiT: Touvron et al., ICML 2021, section 4).

    (1 - alpha) base(class logits, target) + alpha D(distillation logits, teacher logits), where D is the cross-entropy
    with the teacher's best class (`hard`), or tau^2 KL(teacher || student) of softmaxes at temperature tau (`soft`).

    Args:
        base: the loss against the labels.
        kind: `hard` is what the published distilled models learnt with (alpha 0.5); `soft` had alpha 0.1 and tau 3.
        alpha: the teacher's share.
        tau: the temperature of `soft`.

    Shapes:
        answers: (class, distillation), each (B, K); teacher (B, K); loss ().

    Same as facebookresearch/deit's `DistillationLoss`: `soft` divides by B K, not by B.

    Raises:
        HexavitError: on a call, a model with one answer.
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

    def forward(self, answers: tuple[Tensor, Tensor], target: Tensor, teacher: Tensor) -> Tensor:
        if isinstance(answers, Tensor):
            raise HexavitError("distillation needs a class and a distillation answer: use head=two_heads")
        labelled, distilled = answers
        if self.kind == "hard":
            taught = F.cross_entropy(distilled.float(), teacher.argmax(dim=1))
        else:
            student, told = ((x.float() / self.tau).log_softmax(dim=1) for x in (distilled, teacher))
            taught = F.kl_div(student, told, reduction="sum", log_target=True) * self.tau**2 / student.numel()
        loss: Tensor = (1 - self.alpha) * self.base(labelled, target) + self.alpha * taught
        return loss
