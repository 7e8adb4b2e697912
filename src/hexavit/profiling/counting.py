"""One forward pass on shapes alone, counted for the part that runs: the implementation of `hexavit.profile`."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from torch.utils.hooks import RemovableHandle

from hexavit.architecture import Architecture
from hexavit.errors import HexavitError
from hexavit.network.backbone import Backbone, FeatureBackbone
from hexavit.network.stage import StageModule
from hexavit.parts.attention import Attention
from hexavit.parts.contract import Size
from hexavit.parts.registry import KINDS, part_class, part_names
from hexavit.profiling.cost import CLASS_TOKEN, Cost, Place

_HEAD = ("head", "head")
"""The place of a model's work outside its stages."""


def count(model: Backbone | FeatureBackbone, size: Size) -> dict[Place, Cost]:
    """The cost of one image of `size` in each place, as `hexavit.profile` defines it.

    Raises:
        HexavitError: an image that the model cannot take, or a part whose work depends on values.
    """
    name = model.architecture.name
    with FakeTensorMode(allow_non_fake_inputs=True):
        counter = _Counter(_shapes_of(model))
        try:
            counter.run(torch.empty(1, model.architecture.in_chans, *size))
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise HexavitError(
                f"{name} cannot be counted on shapes alone: a part's work depends on values ({error})"
            ) from error
        except RuntimeError as error:
            reason = str(error).strip().split("\n")[0]
            raise HexavitError(f"{name} cannot take an image of {size[0]}x{size[1]}: {reason}") from error
    return counter.costs()


def built(architecture: Architecture) -> Backbone:
    """A model on the meta device, or on the CPU if one of its constructors reads values (`.tolist()`)."""
    try:
        with torch.device("meta"):
            return Backbone(architecture)
    except HexavitError:
        raise
    except (RuntimeError, NotImplementedError):
        return Backbone(architecture)


def _shapes_of(model: Backbone | FeatureBackbone) -> nn.Module:
    """A copy whose weights are shapes: float32, trained, on the CPU, in evaluation mode."""
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        shape = torch.empty(tensor.shape, dtype=dtype, device="cpu")
        memo[id(tensor)] = nn.Parameter(shape, dtype.is_floating_point) if isinstance(tensor, nn.Parameter) else shape
    twin = copy.deepcopy(model, memo).eval()
    for module in twin.modules():
        if isinstance(module, StageModule):
            module.grad_checkpointing = False
        if isinstance(module, Attention):
            module.fuse, module.maps = True, None
    return twin


class _Counter:
    """Counts what a forward pass does for the innermost part that runs."""

    def __init__(self, model: nn.Module) -> None:
        self.owners = _owners(model)
        self.model = model
        self.macs: dict[Place, int] = dict.fromkeys(sorted(self.owners.values(), key=_order), 0)
        self.kept: dict[int, tuple[Place, torch.UntypedStorage]] = {}
        self.known = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
        self.counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
        self.settled = 0
        self.working: list[Place] = []

    def run(self, image: Tensor) -> None:
        """Run one forward pass."""
        self.known.add(image.untyped_storage()._cdata)
        handles: list[RemovableHandle] = []
        for module, owner in self.owners.items():
            handles.append(module.register_forward_pre_hook(partial(self._enter, owner)))
            handles.append(module.register_forward_hook(self._leave))
        try:
            with torch.enable_grad(), self.counter, saved_tensors_hooks(self._keep, lambda kept: kept):
                self.model(image)
        finally:
            for handle in handles:
                handle.remove()
        self._settle()

    def costs(self) -> dict[Place, Cost]:
        """The counted cost and the parameters, by place."""
        bytes_kept = dict.fromkeys(self.macs, 0)
        for place, storage in self.kept.values():
            bytes_kept[place] += storage.nbytes()
        learned, constants = dict.fromkeys(self.macs, 0), dict.fromkeys(self.macs, 0)
        for place, constant, tensor in self._values():
            (constants if constant else learned)[place] += tensor.numel()
        return {
            place: Cost(learned[place], constants[place], macs, bytes_kept[place]) for place, macs in self.macs.items()
        }

    def _values(self) -> Iterator[tuple[Place, bool, Tensor]]:
        """Every parameter and every constant once: its place, whether it is a constant, and the tensor."""
        seen: set[int] = set()
        for module, place in self.owners.items():
            constants = getattr(module, "constants", ())
            own: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
            own.update((name, tensor) for name, tensor in module.named_buffers(recurse=False) if name in constants)
            for name, tensor in own.items():
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield place, name in constants, tensor

    def _enter(self, owner: Place, *_: Any) -> None:
        self._settle()
        self.working.append(owner)

    def _leave(self, *_: Any) -> None:
        self._settle()
        self.working.pop()

    def _settle(self) -> None:
        """Assign what was counted since the last change to the part that ran."""
        total = self.counter.get_total_flops() // 2
        if total != self.settled:
            self.macs[self._place()] += total - self.settled
            self.settled = total

    def _place(self) -> Place:
        return self.working[-1] if self.working else _HEAD

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.known:
            # Holding the storage keeps its number from being given to another.
            self.kept.setdefault(storage._cdata, (self._place(), storage))
        return tensor


def _owners(model: nn.Module) -> dict[nn.Module, Place]:
    """The place of every module: its stage, and the kind of the part that it is or belongs to.

    A part inside another (the MLP of T2T-ViT's tokens) belongs to the outer one; a position inside an attention is a
    place of its own. What blocks share belongs to their kind of part, and the norm of a stage to the residual.
    """
    kind_of = {part_class(kind, name): kind for kind in KINDS for name in part_names(kind)}
    owners: dict[nn.Module, Place] = {}
    kinds: dict[str, str] = {}
    for path, module in model.named_modules():
        steps = path.removeprefix("model.").split(".")
        stage = steps[1] if steps[0] == "stages" and len(steps) > 1 else None
        own, kind = kind_of.get(type(module)), kinds.get(path.rpartition(".")[0], CLASS_TOKEN)
        if stage is not None and len(steps) > 2:
            kind = steps[3] if steps[2] == "shared" and len(steps) > 3 else "residual" if steps[2] == "norm" else kind
        kind = own if own is not None and (own == "position" or kind == CLASS_TOKEN) else kind
        kinds[path] = kind
        owners[module] = _HEAD if stage is None else (stage, kind)
    return owners


def _order(place: Place) -> tuple[bool, int, int]:
    stage, kind = place
    return not stage.isdigit(), int(stage) if stage.isdigit() else 0, (*KINDS, CLASS_TOKEN).index(kind)


def _attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _multiply_add_flops(*_: Any, out_shape: torch.Size, **__: Any) -> int:
    return 2 * math.prod(out_shape)


# PyTorch 2.13 and before has no formula for the kernel that serves attention on the CPU, and none for sums of products
# that are written out, as filters of each place are.
_FORMULAS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten.addcmul: _multiply_add_flops,
}
