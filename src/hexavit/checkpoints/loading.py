"""Loading a checkpoint of any known origin into a model: everything is checked first, then copied."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hexavit.architecture import Architecture
from hexavit.checkpoints.adapt import Adapter, chosen, is_norm_counter
from hexavit.checkpoints.folders import ACTIVATIONS
from hexavit.checkpoints.layout_detection import Origin, find_origin
from hexavit.checkpoints.lazy_tensor import Contents, Stored, listed, printable
from hexavit.checkpoints.reader import read_contents, read_tensor
from hexavit.checkpoints.report import LoadReport
from hexavit.checkpoints.state_dict import Weights, find_weights
from hexavit.errors import CheckpointError
from hexavit.models import KEYS
from hexavit.models.layouts import Translation
from hexavit.network.backbone import Backbone, FeatureBackbone


def load_checkpoint(
    model: nn.Module,
    source: str | Path | Mapping[str, Any],
    *,
    adapt: bool | str | Collection[str] = (),
    classes: Sequence[int | str] | None = None,
    class_names: Sequence[str] | None = None,
    partial: bool = False,
    entry: str | None = None,
    prefix: str | None = None,
) -> LoadReport:
    """Load weights of any known origin, recognised by their keys, and report what was done.

    After an error the model is unchanged.

    Args:
        model: what `create_model` gives.
        source: a file (safetensors, `torch.save`'s, `.npz`), a transformers folder, or a mapping of tensors.
        adapt: what may be changed to fit: `classes` (another number: the model's own head stays), `channels` (of the
            first convolution: summed or repeated), `position` (tables resized); True for all three.
        classes: rows of the file's head for the model's classes, in their order: by number, or by the class's name.
        class_names: the names of the file's classes; known without them for the 1000 of ImageNet-1k.
        partial: load what fits of a model with other parts, and report the rest instead of raising.
        entry: which weights, for a file with several; by default `state_dict` or `model` before a moving average.
        prefix: load the keys under this prefix, without it; by default prefixes of common wrappers are removed.

    Returns:
        A `LoadReport`; print it for a table.

    Raises:
        CheckpointError: a file that cannot be read safely, is of no known origin, or does not fit; the sentence lists
            the keys and names the option that would help.
    """
    trunk = model.model if isinstance(model, FeatureBackbone) else model
    if not isinstance(trunk, Backbone):
        raise CheckpointError(f"weights are loaded into a model from create_model, not into a {type(model).__name__}")
    adapter = Adapter(trunk, chosen(adapt), classes, class_names)
    contents, weights, origin, done = read_state(source, entry, prefix)
    if not partial:
        check_explained(done, origin, contents.where)
    if origin.layout is not None:
        done = origin.layout.placed(done, trunk.architecture)
    target = trunk.state_dict()
    useful = done.state if model is trunk else _of_maps(done.state, trunk)
    state = adapter.fit(useful, target)
    fit = _Fit.of(state, target, adapter)
    fit.check(adapter, partial, contents.where)
    check_numbers(fit.fitting, contents.where)
    _copy(trunk, fit.fitting, target)
    left = {name: "no place in this model" for key in fit.over for name in done.sources[key]}
    unused = {
        name: "feature maps need no head" for key in done.state if key not in useful for name in done.sources[key]
    }
    heads = {name: why for key, why in adapter.kept.items() for name in done.sources.get(key, ())}
    return LoadReport(
        source=contents.where,
        origin=origin.name,
        family=origin.layout.family if origin.layout else trunk.architecture.name,
        entry=weights.entry,
        loaded=tuple(fit.fitting),
        adapted=adapter.done,
        missing=fit.missing | {key: why for key, why in adapter.kept.items() if key in target},
        left_over=left | dict.fromkeys((*done.unexplained, *done.broken), f"{origin.name}'s layout has no word for it"),
        dropped=unused | heads | _dropped(done, weights, contents),
        notes=(
            *config_notes(contents, trunk.architecture, origin),
            *_notes(contents, origin, trunk, fit.fitting, target),
        ),
        loaded_numbers=sum(t.numel() for t in fit.fitting.values()),
        model_numbers=sum(parameter.numel() for parameter in trunk.parameters()),
    )


def _copy(model: Backbone, state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Copy tensors into a model; those of a model on the meta device take their place."""
    real = {key: tensor for key, tensor in state.items() if not target[key].is_meta}
    with torch.no_grad():
        for key, tensor in real.items():
            target[key].copy_(tensor)
    if len(real) < len(state):
        # A tensor that aliases a mapping given by the caller would tie the model to it.
        fresh = {key: t.to(target[key].dtype, copy=True) for key, t in state.items() if key not in real}
        grads = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        model.load_state_dict(fresh, strict=False, assign=True)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(grads[name])


UNSUPPORTED = {name: key for keys in KEYS.values() for name, key in getattr(keys, "UNSUPPORTED", {}).items()}
"""Models of other libraries that are known by name and not supported: a pattern of the sorted keys, one on a line."""


@dataclass(frozen=True)
class _Fit:
    """A state compared with a model's: what fits, what has another shape or no place, and what is missing."""

    fitting: dict[str, Tensor]
    wrong: dict[str, str]
    over: list[str]
    absent: list[str]
    counters: list[str]

    @classmethod
    def of(cls, state: Mapping[str, Tensor], target: Mapping[str, Tensor], adapter: Adapter) -> _Fit:
        wrong = {
            key: f"{tuple(t.shape)} in the file, {tuple(target[key].shape)} in the model"
            for key, t in state.items()
            if key in target and t.shape != target[key].shape
        }
        lacking = [key for key in target if key not in state and key not in adapter.kept]
        counters = [key for key in lacking if is_norm_counter(adapter.model, key)]
        return cls(
            {key: t for key, t in state.items() if key in target and key not in wrong},
            wrong,
            [key for key in state if key not in target],
            [key for key in lacking if key not in counters],
            counters,
        )

    @property
    def missing(self) -> dict[str, str]:
        """The model's keys that stay at their start, and why."""
        reasons = dict.fromkeys(self.absent, "not in the file, left at its initial value")
        reasons |= {key: f"left at its initial value: {shapes}" for key, shapes in self.wrong.items()}
        return reasons | dict.fromkeys(self.counters, "counts training steps, left at its initial value")

    def check(self, adapter: Adapter, partial: bool, where: str) -> None:
        """Raise for what does not fit, unless it may keep its initial value."""
        if adapter.wanting:
            raise CheckpointError(f"{where}: {'; '.join(adapter.wanting)}")
        if not self.fitting:
            raise CheckpointError(f"{where}: none of its tensors has a place in this model")
        said = []
        if self.over:
            said.append(f"{len(self.over)} of its tensors have no place in the model ({listed(self.over)})")
        if self.absent:
            said.append(f"{len(self.absent)} of the model's are not in it ({listed(self.absent)})")
        if self.wrong:
            shapes = listed(f"{key} {shapes}" for key, shapes in self.wrong.items())
            said.append(f"{len(self.wrong)} have another shape ({shapes})")
        if said and not partial:
            raise CheckpointError(
                f"{where}: {', '.join(said)}: if the model has other parts on purpose, partial=True loads what fits "
                "and reports the rest"
            )


def read_state(
    source: str | Path | Mapping[str, Any], entry: str | None = None, prefix: str | None = None
) -> tuple[Contents, Weights, Origin, Translation]:
    """A source's contents, the weights in it, their origin, and their tensors under our names.

    Raises:
        CheckpointError: as `load_checkpoint`, of the file alone.
    """
    contents = read_contents(source)
    weights = find_weights(contents, entry, prefix)
    for name, pattern in UNSUPPORTED.items():
        if re.search(pattern, "\n".join(sorted(weights.tensors)), re.MULTILINE | re.DOTALL):
            raise CheckpointError(
                f"{contents.where} is a checkpoint of {name}, which is not supported: see list_models()"
            )
    origin = find_origin(weights.tensors, contents.where)
    return contents, weights, origin, origin.to_ours(_Reading(contents, weights.tensors))


@dataclass(frozen=True)
class _Reading(Mapping[str, Tensor]):
    """Tensors that are read when they are asked for and not kept, so that what they become is the only copy."""

    contents: Contents
    tensors: Mapping[str, Stored]

    def __getitem__(self, key: str) -> Tensor:
        return read_tensor(self.contents, key, self.tensors[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def check_explained(done: Translation, origin: Origin, where: str) -> None:
    """Raise for a state of which some keys have no row, or a row only in part."""
    family = f" ({origin.layout.family})" if origin.layout else ""
    if done.unexplained:
        raise CheckpointError(
            f"{where} is of {origin.name}{family}, whose layout does not explain {listed(done.unexplained)}: "
            "it is another variant's, or holds more than the model"
        )
    if done.broken:
        raise CheckpointError(f"{where} is of {origin.name}{family}, but {'; '.join(done.broken[:5])}")


def check_numbers(state: Mapping[str, Tensor], where: str) -> None:
    """Raise for tensors that are not floating-point weights, or that hold NaN or infinity."""
    plain = (item for item in state.items() if not item[0].endswith(".num_batches_tracked"))
    odd = [f"{key} ({t.dtype})" for key, t in plain if not t.is_floating_point()]
    if odd:
        raise CheckpointError(f"{where}: weights are floating-point numbers, but not {listed(odd, 5)}")
    bad = [key for key, t in state.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if bad:
        raise CheckpointError(f"{where}: NaN or infinite numbers in {listed(bad, 5)}: the file is damaged")


def _of_maps(state: Mapping[str, Tensor], trunk: Backbone) -> dict[str, Tensor]:
    """The state without what a model of feature maps has left out: the head, and later blocks."""
    with torch.device("meta"):
        whole, kept = Backbone(trunk.architecture).state_dict(), trunk.state_dict()
    return {key: t for key, t in state.items() if key not in whole or key in kept}


def _dropped(done: Translation, weights: Weights, contents: Contents) -> dict[str, str]:
    dropped = dict.fromkeys(done.dropped, "no model reads it")
    dropped |= {key: f"not weights: {what}" for key, what in weights.others.items()}
    return dropped | dict.fromkeys(contents.foreign, "a class or function, not created")


def _notes(
    contents: Contents, origin: Origin, model: Backbone, loaded: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> list[str]:
    different = origin.layout.differs(model.architecture) if origin.layout else []
    if contents.config:  # it has the eps
        different = [each for each in different if not each[1].startswith("norm_eps=")]
    notes = []
    for said, choice, here in different:
        path = choice if choice.startswith("norm_eps") else f"stages.*.{choice}"
        notes.append(f"{said}; this model computes {here}: override {path} to match")
    types = sorted({f"{t.dtype} to {target[key].dtype}" for key, t in loaded.items() if t.dtype != target[key].dtype})
    return [*notes, *(f"converted from {change}" for change in types)]


def config_notes(contents: Contents, architecture: Architecture, origin: Origin) -> list[str]:
    """Where the configuration beside the weights names another computation, which keys do not show."""
    act = contents.config.get("hidden_act")
    act = ACTIVATIONS.get(act, act) if isinstance(act, str) else None
    here = {v for path, v in architecture.leaves().items() if path.endswith(".feedforward.act")}
    notes = []
    if act is not None and here != {act}:
        notes.append(
            f"config.json says hidden_act {printable(act)!r}; this model computes {', '.join(sorted(here))}: override "
            "stages.*.feedforward.act to match"
        )
    eps = contents.config.get("layer_norm_eps")
    if isinstance(eps, float) and origin.eps_in_config and eps != architecture.norm_eps:
        notes.append(
            f"config.json says layer_norm_eps {eps:g}; this model has {architecture.norm_eps:g}: override "
            f"norm_eps={eps:g} to match"
        )
    return notes
