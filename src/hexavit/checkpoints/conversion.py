"""Writing a checkpoint in another layout, through our names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from hexavit.architecture import Architecture
from hexavit.checkpoints.folders import configured, image_processor, processor_notes
from hexavit.checkpoints.layout_detection import Origin
from hexavit.checkpoints.lazy_tensor import Contents, listed
from hexavit.checkpoints.loading import check_explained, check_numbers, config_notes, read_state
from hexavit.checkpoints.model_detection import guess, has_tensors
from hexavit.checkpoints.writer import write_json, write_state
from hexavit.errors import CheckpointError, nearest
from hexavit.models import LAYOUTS, list_models, model_entry, pretrained_cfg, resolve
from hexavit.models.layouts import OWN_SUFFIXES, Layout

Target = Literal["authors", "huggingface", "timm", "torchvision", "vit_pytorch", "hexavit"]
TARGETS: tuple[str, ...] = get_args(Target)


@dataclass(frozen=True)
class ConvertReport:
    """The result of a conversion: origin, layout, model, number of tensors, dropped keys and notes."""

    source: str
    origin: str
    out: str
    target: str
    model: str | None
    tensors: int
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.source} ({self.origin}) -> {self.out} ({self.target})"]
        lines.append(f"  {self.tensors} tensors of {self.model or 'a model without a name here'}")
        lines += [f"  dropped  {listed(self.dropped, 8)}"] if self.dropped else []
        return "\n".join([*lines, *(f"  note     {note}" for note in self.notes)])


def convert(
    source: str | Path | Mapping[str, Any],
    out: str | Path,
    to: str,
    *,
    model: str | Architecture | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    activation: str | None = None,
    entry: str | None = None,
    prefix: str | None = None,
    overwrite: bool = False,
) -> ConvertReport:
    """Write a checkpoint in another layout; every floating-point number stays as it is, bit for bit.

    Args:
        source: what `load_checkpoint` reads.
        out: a file, by its suffix safetensors, `.pth` or (ViT's authors) `.npz`; for `huggingface` a folder too, which
            gets `config.json`.
        to: `authors`, `huggingface`, `timm`, `torchvision`, `vit_pytorch` or `hexavit`. timm has no CvT of its own:
            hexavit's stands in its registry, with hexavit's names.
        model: the model of the weights, by name or as an architecture; None finds it by shapes.
        overrides: edits of that model, for options that leave no trace in shapes.
        activation: activation that the converted model uses, if it is another one.
        entry: which weights, for a file with several.
        prefix: the prefix of their keys; by default prefixes of common wrappers are removed.
        overwrite: replace `out` if it exists.

    Raises:
        CheckpointError: the file is not understood, the layout cannot express the model, its files do not have this
            suffix, or `out` exists.
    """
    path = Path(out)
    if not overwrite and (path.is_file() or (path.is_dir() and any(path.iterdir()))):
        raise CheckpointError(f"{path} already exists: pass overwrite=True to replace it")
    if to not in TARGETS:
        raise CheckpointError(f"there is no layout {to!r}: {nearest(to, TARGETS)}")
    contents, weights, origin, done = read_state(source, entry, prefix)
    check_explained(done, origin, contents.where)
    check_numbers(done.state, contents.where)
    architecture = _architecture(contents, done.state, origin, model, overrides, activation)
    if origin.layout is not None and origin.layout.places is not None:
        if architecture is None:
            raise CheckpointError(f"{contents.where}: no named model has tensors of these shapes: pass model=")
        done = origin.layout.placed(done, architecture)
    family = _family(origin, architecture, contents.where)
    layout = _layout(to, family, architecture)
    notes = config_notes(contents, architecture, origin) if architecture else []
    if layout is None and to == "timm":
        notes.append(f"timm has no {family}: these are hexavit's names, which its models in timm's registry read")
    suffixes = layout.written_as if layout else OWN_SUFFIXES
    if path.suffix not in suffixes:
        words = ", ".join(suffix or "a folder" for suffix in suffixes)
        raise CheckpointError(f"{path}: files of the layout {to!r} are {words}, not {path.suffix or 'a folder'}")
    state = done.state if layout is None else _written(layout, done.state, architecture, notes, eps=bool(path.suffix))
    if path.suffix:
        write_state(state, path)
    else:
        assert layout is not None and layout.config is not None and architecture is not None
        config = layout.config(architecture)
        if contents.class_names and len(contents.class_names) == architecture.num_classes:
            config["id2label"] = {str(i): name for i, name in enumerate(contents.class_names)}
            config["label2id"] = {name: i for i, name in enumerate(contents.class_names)}
        notes = [note for note in notes if "norm_eps" not in note]  # it is in the new config.json
        write_state(state, path / "model.safetensors")
        preprocessing = {**pretrained_cfg(architecture), **contents.preprocessing}
        notes += processor_notes(preprocessing, architecture)
        write_json(image_processor(preprocessing, architecture.img_size), path / "preprocessor_config.json")
        write_json(config, path / "config.json")
    dropped = (*done.dropped, *weights.others, *contents.foreign)
    name = architecture.name if architecture else None
    return ConvertReport(contents.where, origin.name, str(path), to, name, len(state), dropped, tuple(notes))


def _architecture(
    contents: Contents,
    state: Mapping[str, Tensor],
    origin: Origin,
    model: str | Architecture | None,
    overrides: Sequence[str] | Mapping[str, Any],
    activation: str | None,
) -> Architecture | None:
    guessed = contents.architecture or guess(state, origin.family, origin.places)
    found = guessed
    if found is not None and contents.architecture is None:
        found = configured(found, contents.config, eps=origin.eps_in_config)
    if model is not None:
        found = resolve(model)
        if guessed is not None and not has_tensors(found, state):
            sizes = {"in_chans": guessed.in_chans, "num_classes": guessed.num_classes, "img_size": guessed.img_size}
            found = replace(found, **sizes)  # type: ignore[arg-type]  # each of its own type
    if found is None:
        if overrides or activation:
            raise CheckpointError("no named model has tensors of these shapes, so overrides and activation need model=")
        return None
    found = found.override(overrides)
    return found.override([f"stages.*.feedforward.act={activation}"]) if activation else found


def _family(origin: Origin, architecture: Architecture | None, where: str) -> str:
    if origin.layout is not None:
        return origin.layout.family
    name = architecture.name if architecture else None
    if name not in list_models():
        raise CheckpointError(f"{where}: no named model has tensors of these shapes: pass model=")
    return model_entry(str(name)).family


def _layout(to: str, family: str, architecture: Architecture | None) -> Layout | None:
    """The layout to write, of several the one that has words for the architecture; None is our own."""
    own = (
        {"hexavit"}
        if ("timm", family) in {(layout.origin, layout.family) for layout in LAYOUTS}
        else {"hexavit", "timm"}
    )
    if to in own:
        return None
    found = [layout for layout in LAYOUTS if (layout.origin, layout.family) == (to, family)]
    if found:
        usual = next((layout for layout in found if layout.cannot is None), found[0])
        fitting = (layout for layout in found if architecture is not None and not layout.unsupported(architecture))
        return next(fitting, usual)
    known = [layout.origin for layout in LAYOUTS if layout.family == family]
    others = f"{', '.join(dict.fromkeys(known))} and " if known else ""
    raise CheckpointError(f"there is no layout {to!r} of {family}, only {others}hexavit")


def _written(
    layout: Layout, state: Mapping[str, Tensor], architecture: Architecture | None, notes: list[str], *, eps: bool
) -> dict[str, Tensor]:
    """Our state in a layout; `eps` adds a note where its library computes with another one."""
    if architecture is None:
        if layout.config is not None:
            raise CheckpointError("no named model has tensors of these shapes: pass model=")
        notes.append("no named model has tensors of these shapes: its options are not checked against the layout")
    else:
        if unsupported := layout.unsupported(architecture):
            raise CheckpointError(
                f"the layout {layout.origin!r} of {layout.family} cannot express {listed(unsupported)}"
            )
        for said, choice, here in layout.differs(architecture):
            option, _, value = choice.partition("=")
            if option == "norm_eps" and not eps:
                continue
            hint = f": activation={value} removes this note" if option == "feedforward.act" else ""
            notes.append(f"{said}, and this model {here}{hint}")
    done = layout.to_theirs(state, _heads(architecture), architecture)
    if done.unexplained or done.broken:
        what = listed([*done.unexplained, *done.broken])
        raise CheckpointError(f"the layout {layout.origin!r} of {layout.family} cannot express {what}")
    computed = layout.computed(architecture) if layout.computed and architecture else {}
    return {**done.state, **computed}


def _heads(architecture: Architecture | None) -> Callable[[str], int]:
    def at(key: str) -> int:
        if architecture is None:
            raise CheckpointError("this layout has an axis of heads, whose number the shapes do not give: pass model=")
        _, stage, _, block, *_ = key.split(".")
        heads = architecture.stages[int(stage)].column("attention", int(block)).options["heads"]
        assert isinstance(heads, int)
        return heads

    return at
