"""The cells of a study as trials of an Optuna study: each is taken once, and again if its worker died.

A worker asks Optuna for the next waiting trial, whose parameters are a cell and a seed. While it trains, a thread of
Optuna's renews the trial's heartbeat; a trial whose heartbeat is old is failed and queued again by whichever worker
asks next. To Optuna a trial without any heartbeat runs, so a worker writes the first one itself and notes it; without
the note, a trial is failed after the same time. The run folder of the dead worker is continued where it is there.
"""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hexavit.errors import HexavitError
from hexavit.studies.cell import Outcome, run_cell
from hexavit.studies.definition import Study, StudyError

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

HEARTBEAT = 20
"""Seconds between heartbeats."""
GRACE = 90
"""Seconds without a heartbeat after which a worker counts as dead."""
_DEFINITION = "definition"
_BEGUN = "begun"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class CellState:
    """Where one cell with one seed stands.

    Attributes:
        cell: name of the cell.
        seed: the seed.
        state: `waiting`, `running`, `finished` or `failed`.
        reason: why it failed.
        outcome: of a finished one.
    """

    cell: str
    seed: int
    state: str
    reason: str = ""
    outcome: Outcome | None = None


class Queue:
    """The queue of a study in a storage.

    Args:
        url: an SQLAlchemy URL, such as `sqlite:///study.db` or `postgresql://user@host/name`, or the path of a journal
            file (`.log`), which has no heartbeats.
        name: of the study.

    Raises:
        StudyError: Optuna is not installed, or the storage cannot be opened.
    """

    def __init__(self, url: str, name: str, *, heartbeat: int = HEARTBEAT, grace: int = GRACE) -> None:
        self.url, self.name = url, name
        self._optuna = _import_optuna()
        self._storage, self._grace = _storage(url, heartbeat, grace), timedelta(seconds=grace)

    def create(self, study: Study) -> None:
        """Create the study and queue its cells, seed by seed; nothing is changed if it is there already.

        Raises:
            StudyError: the storage holds another study of this name.
        """
        with _told(self.url):
            queue = self._optuna.create_study(
                storage=self._storage, study_name=self.name, direction="maximize", load_if_exists=True
            )
            definition = json.dumps(study.as_mapping())
            stored = queue.user_attrs.get(_DEFINITION)
            if stored is None:
                queue.set_user_attr(_DEFINITION, definition)
            elif stored != definition:
                raise StudyError(
                    f"{self.url} holds another study of the name {self.name!r}; give this one another name, or run it "
                    "as it was defined"
                )
            for seed in study.seeds:
                for cell in study.cells:
                    _enqueue(queue, cell.name, seed, skip_if_exists=True)

    def study(self) -> Study:
        """The stored definition.

        Raises:
            StudyError: the storage holds no such study.
        """
        with _told(self.url):
            try:
                stored = self._loaded().user_attrs[_DEFINITION]
            except KeyError:
                raise StudyError(f"{self.url}: this storage holds no study {self.name!r}") from None
        return Study.from_mapping(json.loads(stored), self.name)

    def states(self) -> list[CellState]:
        """Every cell with every seed, in the order of the study."""
        study = self.study()
        with _told(self.url):
            trials = self._loaded().get_trials(deepcopy=False)
        best: dict[tuple[str, int], CellState] = {}
        ranks = {"finished": 3, "running": 2, "waiting": 1, "failed": 0}
        for trial in trials:
            state = _state(trial)
            if state is None:
                continue
            known = best.get((state.cell, state.seed))
            if known is None or ranks[state.state] >= ranks[known.state]:
                best[state.cell, state.seed] = state
        waiting = CellState("", 0, "waiting")
        return [
            best.get((cell.name, seed)) or CellState(cell.name, seed, waiting.state)
            for cell in study.cells
            for seed in study.seeds
        ]

    def retry(self, states: tuple[str, ...] = ("failed",)) -> int:
        """Queue cells again; returns how many. `running` is for storages without heartbeats, after a worker died."""
        again = [each for each in self.states() if each.state in states]
        with _told(self.url):
            queue = self._loaded()
            for each in again:
                _enqueue(queue, each.cell, each.seed)
        return len(again)

    def work(self, folder: Path, tell: Tell, *, seconds: float | None = None, poll: float = 2.0) -> None:
        """Run cells until none is left, waiting for those of other workers in case one dies.

        Args:
            folder: holds the run folders.
            tell: called with a line for each cell.
            seconds: no cell is begun after this time.
            poll: seconds between looks at the queue while other workers train.
        """
        study, begun = self.study(), time.monotonic()
        with _told(self.url):
            queue = self._loaded()
            while seconds is None or time.monotonic() - begun < seconds:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
                    self._optuna.storages.fail_stale_trials(queue)
                self._fail_unbegun(queue)
                left = {each.state for each in self.states()} & {"waiting", "running"}
                if not left:
                    return
                if "waiting" in left:
                    queue.optimize(_objective(study, folder, tell, self._begin), n_trials=1, catch=(HexavitError,))
                else:
                    time.sleep(poll)

    def _loaded(self) -> optuna.Study:
        loaded: optuna.Study = self._optuna.load_study(
            study_name=self.name, storage=self._storage, sampler=_no_sampler()
        )
        return loaded

    def _begin(self, trial: optuna.Trial) -> None:
        """Write the first heartbeat of a trial, and that it is there."""
        if isinstance(self._storage, self._optuna.storages.RDBStorage):
            study = self._storage.get_study_id_from_name(self.name)
            self._storage.record_heartbeat(self._storage.get_trial_id_from_study_id_trial_number(study, trial.number))
        trial.set_user_attr(_BEGUN, trial.number)  # a trial that is queued again inherits the attributes

    def _fail_unbegun(self, queue: optuna.Study) -> None:
        """Queue again the trials of workers that died before the first heartbeat."""
        if not isinstance(self._storage, self._optuna.storages.RDBStorage):
            return
        running = queue.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.RUNNING,))
        for trial in running:
            begun = trial.user_attrs.get(_BEGUN) == trial.number
            if begun or trial.datetime_start is None or datetime.now() - trial.datetime_start < self._grace:
                continue
            try:
                queue.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
            except ValueError:  # another worker was first
                continue
            if "cell" in trial.user_attrs:
                _enqueue(queue, trial.user_attrs["cell"], trial.user_attrs["seed"])


def _objective(
    study: Study, folder: Path, tell: Tell, begin: Callable[[optuna.Trial], None]
) -> Callable[[optuna.Trial], float]:
    def run(trial: optuna.Trial) -> float:
        import optuna

        begin(trial)
        name, seed = trial.user_attrs.get("cell"), trial.user_attrs.get("seed")
        if name is None or seed is None or _taken(trial):
            raise optuna.TrialPruned("another worker has this cell")
        trial.suggest_categorical("cell", [cell.name for cell in study.cells])
        trial.suggest_categorical("seed", study.seeds)
        place = folder / slug(name) / f"seed-{seed}"
        try:
            outcome = run_cell(study, study.cell(name), seed, place)
        except HexavitError as error:
            trial.set_user_attr("reason", " ".join(str(error).split()))
            tell(f"{name}, seed {seed}: failed: {error}")
            raise
        except (KeyboardInterrupt, SystemExit):  # Optuna fails the trial: another one continues its run
            _enqueue(trial.study, name, seed)
            raise KeyboardInterrupt from None
        trial.set_user_attr("outcome", outcome.to_json())
        first = study.tests[0].name
        tell(f"{name}, seed {seed}: {outcome.accuracy[first]:.2%} in {outcome.seconds:.0f} s of training")
        return outcome.accuracy[first]

    return run


def _enqueue(queue: optuna.Study, cell: str, seed: int, *, skip_if_exists: bool = False) -> None:
    attrs = {"cell": cell, "seed": seed}
    queue.enqueue_trial(attrs, user_attrs=attrs, skip_if_exists=skip_if_exists)


def _taken(trial: optuna.Trial) -> bool:
    """Whether an earlier trial has this cell: two workers that began at the same time have queued it twice."""
    from optuna.trial import TrialState

    mine = trial.user_attrs
    return any(
        (other.user_attrs.get("cell"), other.user_attrs.get("seed")) == (mine["cell"], mine["seed"])
        and (other.state == TrialState.COMPLETE or (other.state == TrialState.RUNNING and other.number < trial.number))
        for other in trial.study.get_trials(deepcopy=False)
        if other.number != trial.number
    )


def _state(trial: FrozenTrial) -> CellState | None:
    from optuna.trial import TrialState

    attrs = trial.user_attrs
    names = {
        TrialState.WAITING: "waiting", TrialState.RUNNING: "running", TrialState.COMPLETE: "finished",
        TrialState.FAIL: "failed",
    }  # fmt: skip
    if trial.state not in names or "cell" not in attrs:
        return None
    outcome = Outcome.from_json(attrs["outcome"]) if trial.state == TrialState.COMPLETE else None
    reason = attrs.get("reason", "its worker was stopped") if trial.state == TrialState.FAIL else ""
    return CellState(attrs["cell"], attrs["seed"], names[trial.state], reason, outcome)


def slug(name: str) -> str:
    """A cell's name as the name of a folder."""
    return re.sub(r"[^\w.=-]+", "_", name).strip("_") or "_"


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise StudyError("studies need Optuna: pip install 'hexavit[studies]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _no_sampler() -> Any:
    """All trials come from the queue; a worker that finds it empty gets a sampled trial, which is pruned."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=0)


def _storage(url: str, heartbeat: int, grace: int) -> Any:
    from optuna.storages import JournalStorage, RDBStorage, RetryFailedTrialCallback
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.pool import NullPool

    with _told(url), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # heartbeats count as experimental
        if "://" not in url:
            return JournalStorage(JournalFileBackend(url))
        connect = {"timeout": 60} if url.startswith("sqlite") else {}
        return RDBStorage(
            re.sub("^postgresql://", "postgresql+psycopg://", url),  # SQLAlchemy 2.0 would look for psycopg2
            engine_kwargs={"connect_args": connect, "poolclass": NullPool},  # no connection is left open
            heartbeat_interval=heartbeat,
            grace_period=grace,
            heartbeat_stale_trial_callback=RetryFailedTrialCallback(),
        )


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Errors of the database as one sentence."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, ImportError, ValueError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        if isinstance(error, ImportError) and url.startswith("postgresql://"):
            reason = "it needs psycopg: pip install 'hexavit[postgresql]'"
        raise StudyError(f"{re.sub(r'//[^@/]*@', '//', url)}: this storage cannot be used ({reason})") from error
