"""The benchmark: a plan, its runs in shuffled order, rows with their proof and labels, results. Here the parts of benchmarks/ meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic

from ..errors import ShortcastError
from ..runtime.bundle import Bundle
from .contenders import Contender
from .environment import describe_environment
from .isolation import Finished, run_task
from .limits import measure_limits
from .machine_state import Machine, labels_of
from .nvml import open_nvml
from .plan import Planned, Wishes, case_of, cases_of, contenders_of, fit_of, order_of, pace_of, within
from .proof import merged, refusal
from .results import SCHEMA, Case, Label, Limits, MachineState, Parity, Results, Row, Run
from .statistics import drifts, summarise
from .task import Task
from .workload import describe_clip

_QUICK_PROOF_CLIPS = 2
_RUN_PROOF_CLIPS = 1
"""Each process shows that it computes what was proved."""
_LEAST_S = 8.0
"""What a run of a quick benchmark takes at least: with less left, none is begun."""
_OUT_OF_TIME = "out of time: give it more with --budget, or ask for less"
_COMPILING_S = 300.0
"""More for what compiles when it's first called."""
_CACHING = 0.8
"""The same input again takes less than this share of another's time: the contender answers from memory."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far the benchmark is."""

    done: int
    total: int
    note: str


@dataclass(slots=True)
class _Found:
    """What is known of one contender or case so far."""

    proofs: list[Parity] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    labels: dict[Label, str] = field(default_factory=dict)
    refusal: str = ""

    def note(self, labels: dict[Label, str]) -> None:
        """Adds what another run is to be labelled with; every reason is kept once."""
        for label, why in labels.items():
            known = self.labels.get(label, "")
            self.labels[label] = known if why in known else f"{known} {why}".strip()


class Benchmark:
    """One call of `shortcast bench`."""

    def __init__(self, bundle: Bundle, clips: Sequence[Path], wishes: Wishes, *, whisper: Path | None = None) -> None:
        """Plans; nothing is measured yet.

        Args:
            bundle: the opened bundle.
            clips: the workload.
            wishes: what was asked for.
            whisper: a directory with the Whisper weights; None looks in the usual places.

        Raises:
            EngineError: a backend is unknown, or nothing fits into the budget of GPU memory.
        """
        self._bundle, self._clips, self._wishes = bundle, tuple(clips), wishes
        self._whisper = str(whisper) if whisper else None
        contenders = contenders_of(wishes, bundle)
        self.fit = fit_of(wishes, contenders, bundle, whisper)
        self.contenders = within(self.fit, contenders)
        self._nvml = open_nvml()
        self._found: dict[Case, _Found] = {}
        self._of_contender: dict[Contender, _Found] = {what: _Found(refusal=what.missing()) for what in self.contenders}
        able = [what for what in self.contenders if not self._of_contender[what].refusal]
        self.cases = cases_of(wishes, able) if able else []
        self.runs = order_of(self.cases, repeats=wishes.runs_each, seed=wishes.seed, lean_first=wishes.quick)
        self.pace = pace_of(wishes, len(self.runs), chunk_s=bundle.contract.chunk_s)

    def run(self, *, command: str, step: Callable[[Step], None] = lambda _: None) -> Results:
        """Measures everything.

        Args:
            command: the command line, for the record.
            step: told of every run as it begins.

        Raises:
            MediaError: a clip cannot be scored.
        """
        began = monotonic()
        facts = tuple(describe_clip(clip, self._bundle) for clip in self._clips)
        nvml = self._nvml
        environment = describe_environment(nvml=nvml, threads=self._wishes.threads)
        machine = Machine(nvml=nvml)
        machine.look()
        proofs = [] if self._wishes.quick else [what for what in self.contenders if not self._of_contender[what].refusal]
        total = len(proofs) + len(self.runs)
        for done, what in enumerate(proofs):
            step(Step(done, total, f"proving {what.name}"))
            self._prove(what)
        for order, planned in enumerate(self.runs):
            step(Step(len(proofs) + order, total, planned.case.key))
            left_s = self._wishes.total_s - (monotonic() - began)
            self._run(planned, order, left_s, machine)
        left_s = self._wishes.total_s - (monotonic() - began)
        limits = self._limits(step, total) if left_s > 0 or not self._wishes.quick else None
        step(Step(total, total, ""))
        return Results(
            schema=SCHEMA,
            created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            command=command,
            seed=self._wishes.seed,
            quick=self._wishes.quick,
            bundle={
                "id": self._bundle.manifest.id,
                "name": self._bundle.manifest.name,
                "source": str(self._bundle.manifest.card.get("source", "unknown")),
            },
            clips=facts,
            environment=environment,
            limits=limits,
            rows=tuple(self._rows()),
        )

    def _limits(self, step: Callable[[Step], None], total: int) -> Limits:
        step(Step(total, total, "the machine's own limits"))
        precisions = [form for form in dict.fromkeys(what.precision for what in self.contenders) if form in self._bundle.manifest.variants]
        threads = sorted({1, self._wishes.threads} if not self._wishes.quick else {self._wishes.threads})
        return measure_limits(self._bundle, precisions or ["fp32"], threads, quick=self._wishes.quick)

    def _prove(self, what: Contender) -> None:
        """All proof clips, in a process as the timed ones are."""
        found = self._of_contender[what]
        try:
            finished = self._finish(what, None, proof_clips=None, timeout_s=max(120.0, self._patience_s(what)))
        except ShortcastError as error:
            found.refusal = str(error)
            return
        found.proofs.append(finished.answer.parity)
        if not finished.answer.parity.passed:
            found.refusal = refusal(finished.answer.parity)

    def _run(self, planned: Planned, order: int, left_s: float, machine: Machine) -> None:
        """One run, unless its contender was refused before or time is up."""
        whole, found = self._of_contender[planned.contender], self._found.setdefault(planned.case, _Found())
        if whole.refusal or found.refusal:
            return
        if left_s <= (_LEAST_S if self._wishes.quick else 0.0):
            if not found.runs:
                found.refusal = _OUT_OF_TIME
            return
        before, begun = machine.look(), monotonic()
        # A quick benchmark keeps its word; a long one lets a run that was begun end.
        timeout_s = left_s if self._wishes.quick else self._patience_s(planned.contender)
        clips = _QUICK_PROOF_CLIPS if self._wishes.quick else _RUN_PROOF_CLIPS
        try:
            finished = self._finish(planned.contender, planned.case, proof_clips=clips, timeout_s=timeout_s)
        except ShortcastError as error:
            hurried = timeout_s < self.pace.timeout_s and monotonic() - begun >= timeout_s
            found.refusal = _OUT_OF_TIME if hurried else str(error)
            found.runs.clear()
            return
        after = machine.look()
        whole.proofs.append(finished.answer.parity)
        if not finished.answer.parity.passed:
            whole.refusal = refusal(finished.answer.parity)
        elif cached := _answers_from_memory(finished):
            found.refusal = cached
        else:
            found.runs.append(_as_run(planned, order, finished, before, after))
            found.note(labels_of(before, after))

    def _patience_s(self, what: Contender) -> float:
        return self.pace.timeout_s + (_COMPILING_S if what.backend == "torch-compile" else 0.0)

    def _finish(self, what: Contender, case: Case | None, *, proof_clips: int | None, timeout_s: float) -> Finished:
        """One process from its start to its end, its memory watched."""
        task = Task(
            bundle=str(self._bundle.path),
            contender=what,
            scope=case.scope if case else "file",
            scenario=case.scenario if case else None,
            threads=self._wishes.threads,
            clips=tuple(map(str, self._clips)),
            seed=self._wishes.seed,
            proof_clips=proof_clips,
            warm_up=self.pace.warm_up,
            rule=self.pace.rule,
            load=self.pace.load,
            whisper=self._whisper,
        )
        return run_task(task, timeout_s=timeout_s, nvml=self._nvml)

    def _rows(self) -> list[Row]:
        """A row for every case in the order of the plan; a contender that was refused has one."""
        rows = []
        for what in self.contenders:
            whole = self._of_contender[what]
            parity = merged(whole.proofs)
            if whole.refusal:
                rows.append(Row(case_of(what, self._wishes, "file", "single-stream"), parity, (), {}, whole.refusal))
                continue
            for case in (case for other, case in self.cases if other == what):
                found = self._found.get(case, _Found(refusal=_OUT_OF_TIME))
                runs = () if found.refusal else tuple(found.runs)
                rows.append(Row(case, parity, runs, self._labels(found) if runs else {}, found.refusal))
        return rows

    def _labels(self, found: _Found) -> dict[Label, str]:
        labels: dict[Label, str] = {"QUICK": "Too short a run for anything but a first look."} if self._wishes.quick else {}
        if unstable := " ".join(_instability(found.runs)):
            labels["UNSTABLE"] = unstable
        return labels | {label: found.labels[label] for label in sorted(found.labels)}


def _instability(runs: Sequence[Run]) -> Iterator[str]:
    """Why times of these runs are not steady, a sentence for each run where they are not."""
    for run in runs:
        apart = [f"times of {name} differ by {size:.0%} between its last windows" for name, size in drifts(run).items()]
        settled = [] if run.warm_up.settled else [f"times had not settled after {run.warm_up.calls} calls of warm-up"]
        if said := ", ".join(settled + apart):
            yield f"Run {run.repeat + 1}: {said}."


def _as_run(planned: Planned, order: int, finished: Finished, before: MachineState, after: MachineState) -> Run:
    answer = finished.answer
    assert answer.warm_up is not None
    return Run(
        repeat=planned.repeat,
        order=order,
        cold=answer.cold,
        warm_up=answer.warm_up,
        wall_s=answer.wall_s,
        cpu_s=answer.cpu_s,
        clips=answer.clips,
        chunks=answer.chunks,
        media_s=answer.media_s,
        series=answer.series,
        memory=finished.memory,
        before=before,
        after=after,
        outcome=answer.outcome,
    )


def _answers_from_memory(finished: Finished) -> str:
    """A sentence where the same input again was answered much faster than inputs that differ."""
    for series in finished.answer.series:
        kind, _, name = series.name.rpartition(" ")
        if kind != "audit same":
            continue
        same = summarise(series.values)
        other = summarise(next(one.values for one in finished.answer.series if one.name == f"audit unique {name}"))
        if same and other and same.median < _CACHING * other.median:
            return f"it answers an input it has seen in {same.median / other.median:.0%} of another's time ({name}): it keeps answers"
    return ""
