"""Train variants of a model side by side, with several seeds, and report what the change does.

Actions: `run FILE` starts or continues a study (a YAML file, or a name of `hexavit study list`; without FILE, --model,
--data and --set make one), `work FOLDER` joins as one more worker, `status FOLDER` and `report FOLDER` show where it
stands, `list` lists the studies that come with hexavit."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hexavit.cli._parser import Parser, UsageError, add_json

if TYPE_CHECKING:
    from hexavit.studies import Study

_SETTINGS = {"model": str, "data": str, "epochs": int, "train_images": int, "batch_size": int, "device": str}


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "action", metavar="ACTION", type=Literal["run", "work", "status", "report", "list"],
        help="run, work, status, report or list",
    )  # fmt: skip
    parser.add_argument("study", metavar="STUDY", nargs="?", default=None, help="YAML file or name; else the folder")
    parser.add_argument("--out", metavar="FOLDER", help="folder of the study; by default studies/NAME")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="PATH=VALUE[,VALUE...]",
        help="values to cross, such as stages.*.attention.stride_kv=1,2; a single value is common to all cells",
    )  # fmt: skip
    parser.add_argument("--model", type=str, default=None, help="model, instead of the study's")
    parser.add_argument("--data", type=str, default=None, help="data set, instead of the study's")
    parser.add_argument("--epochs", type=int, default=None, help="epochs, instead of the study's")
    parser.add_argument("--train-images", type=int, default=None, help="training images, instead of the study's")
    parser.add_argument("--batch-size", type=int, default=None, help="images in one step, instead of the study's")
    parser.add_argument("--device", type=str, default=None, help="where to train, instead of the study's")
    parser.add_argument("--seeds", type=int, default=None, help="number of seeds, instead of the study's")
    parser.add_argument("--full-size", action="store_true", help="train the study's full-size model at its own size")
    parser.add_argument(
        "--storage", metavar="URL", default=None,
        help="queue for several machines: postgresql://USER@HOST/NAME, or a journal file (.log); by default SQLite in "
        "the folder",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, help="processes on this machine")
    parser.add_argument("--seconds", type=float, default=None, help="begin no cell after so many seconds")
    parser.add_argument(
        "--retry", type=Literal["failed", "running"], default=None,
        help="queue failed cells again; or those that seem to run, after a worker died beside a journal file",
    )  # fmt: skip
    parser.add_argument(
        "--no-measure", dest="measure", action="store_false", help="report without speed and memory on this machine"
    )
    add_json(parser)


def run(args: Namespace) -> None:
    if args.action == "list":
        _list(args)
        return
    if args.action == "run":
        _run(args)
        return
    if args.study is None:
        raise UsageError(f"hexavit study {args.action} needs the FOLDER of a study")
    if args.action == "work":
        from hexavit.studies.run import work_in

        work_in(Path(args.study), _tell, args.seconds)
    elif args.action == "status":
        _status(args)
    else:
        _report(Path(args.study), args)


def _run(args: Namespace) -> None:
    from hexavit.studies.run import run as run_study

    if args.workers < 1:
        raise UsageError(f"--workers is at least 1, not {args.workers}")
    if args.seeds is not None and args.seeds < 1:
        raise UsageError(f"--seeds is at least 1, not {args.seeds}")
    study = _study(args)
    folder = Path(args.out or Path("studies", study.name))
    retry = () if args.retry is None else (args.retry,)
    options: dict[str, Any] = {
        "storage": args.storage,
        "workers": args.workers,
        "seconds": args.seconds,
        "retry": retry,
    }
    states = run_study(study, folder, tell=_tell, **options)
    if any(state.outcome is not None for state in states):
        _report(folder, args)


def _study(args: Namespace) -> Study:
    from hexavit.studies import Study, crossed
    from hexavit.studies.definition import sweep
    from hexavit.studies.run import overridden

    given = {name: getattr(args, name) for name in _SETTINGS if getattr(args, name) is not None}
    axes = sweep(args.overrides)
    if args.study is not None:
        study = Study.read(args.study)
        if any(len(values) > 1 for values in axes.values()):
            raise UsageError("--set crosses values only without a study file, which has its own cells")
        if args.full_size:
            if study.full_size is None:
                raise UsageError(f"{args.study}: this study has no full-size model")
            given = {"model": study.full_size, "img_size": _size_of(study.full_size), **given}
        if axes:
            given["overrides"] = [*study.settings.get("overrides", ()), *(f"{path}={v[0]}" for path, v in axes.items())]
        return overridden(study, given, args.seeds)
    if not axes or args.model is None or args.data is None:
        raise UsageError("hexavit study run needs a STUDY, or --model, --data and --set PATH=VALUE,VALUE")
    common = [f"{path}={values[0]}" for path, values in axes.items() if len(values) == 1]
    cells = crossed({path: values for path, values in axes.items() if len(values) > 1} or axes)
    name = f"{args.model}-{'-'.join(path.rpartition('.')[2] for path in axes)}"
    seeds = tuple(range(args.seeds or 3))
    study = Study(name=name, settings={"model": args.model, "data": args.data}, cells=cells, seeds=seeds)
    return overridden(study, {**given, **({"overrides": common} if len(common) < len(axes) else {})})


def _size_of(model: str) -> list[int]:
    from hexavit.models import resolve

    return list(resolve(model).img_size)


def _status(args: Namespace) -> None:
    from hexavit.studies.run import status

    study, states = status(args.study)
    if args.json:
        rows = [{"cell": s.cell, "seed": s.seed, "state": s.state, "reason": s.reason} for s in states]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    counts = {name: sum(s.state == name for s in states) for name in ("finished", "running", "waiting", "failed")}
    print(f"{study.name}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    for state in states:
        print(f"  {state.cell}, seed {state.seed}: {state.state}" + (f": {state.reason}" if state.reason else ""))


def _report(folder: Path, args: Namespace) -> None:
    from hexavit.studies.report import summary
    from hexavit.studies.run import report

    results, paths = report(folder, measure=args.measure)
    if args.json:
        print(json.dumps([str(path) for path in paths], indent=2, ensure_ascii=False))
        return
    print(summary(results))
    print(f"report: {paths[1]}")


def _list(args: Namespace) -> None:
    from hexavit.studies.definition import FILES, Study

    studies = [Study.read(path) for path in sorted(FILES.glob("*.yaml"))]
    if args.json:
        print(
            json.dumps([{"name": study.name, "title": study.title, "time": study.time} for study in studies], indent=2)
        )
        return
    width = max((len(study.name) for study in studies), default=0)
    for study in studies:
        runs = len(study.cells) * len(study.seeds)
        print(f"{study.name:<{width}}  {study.title} ({runs} runs{'; ' + study.time if study.time else ''})")


def _tell(text: str) -> None:
    print(text, flush=True)
