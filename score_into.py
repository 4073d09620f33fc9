"""What `shortcast score` does with a file of scores: begins one or goes on with it, and says how far it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from .errors import ShortcastError
from .runtime.clip_list import Clip
from .runtime.score import Score
from .runtime.score_files import FileFormat, RowsKey, ScoreFile, new_score_file, resume_score_file
from .score_run import Plan, clip_bar, keeping, note_end
from .terminal import say


@dataclass(frozen=True, slots=True)
class Target:
    """The file that scores go to."""

    path: Path
    form: FileFormat
    resume: bool
    retry_failed: bool
    force: bool


def score_into(target: Target, key: RowsKey, clips: Sequence[Clip], plan: Plan) -> int:
    """Scores clips into a file, all of them or those that are not in it. Returns how many have failed, then or now."""
    if target.resume:
        opened = resume_score_file(target.path, target.form, key, clips, retry_failed=target.retry_failed)
    else:
        opened = new_score_file(target.path, target.form, key, force=target.force)
    with opened as file:
        todo = [clip for clip in clips if clip.key not in file.done]
        before = [file.done[clip.key] for clip in clips if clip.key in file.done]
        tally = _Tally(len(before), sum(clip.failed for clip in before))
        if before:
            say(f"{target.path} has {tally.of(len(clips))}" + ("; --retry-failed tries those again" if tally.failed else ""))
        try:
            _append_scores(file, todo, plan, tally)
        except (KeyboardInterrupt, ShortcastError):
            say(f"{target.path} has {tally.of(len(clips))}; to go on, give the same command with --resume {target.path}")
            raise
    if todo:
        say(f"{target.path} has {tally.of(len(clips))}")
    return tally.failed


@dataclass(slots=True)
class _Tally:
    """Clips that are in the file."""

    done: int
    failed: int

    def of(self, clips: int) -> str:
        """`12 of 40 clips, 2 of them failed`."""
        return f"{self.done} of {clips} clips" + (f", {self.failed} of them failed" if self.failed else "")


def _append_scores(file: ScoreFile, clips: Sequence[Clip], plan: Plan, tally: _Tally) -> None:
    """Scores clips and appends the rows of each when it is done."""
    if not clips:
        return
    rows: dict[int, list[Score]] = {}

    def keep(index: int, score: Score) -> None:
        if len(clips) == 1:  # nothing can mix with the rows of a single clip, and it may go on for ever
            file.add(clips[index], [score])
        else:
            rows.setdefault(index, []).append(score)

    with (
        keeping(clips, plan, keep) as take,
        closing(plan.events(clips)) as events,
        clip_bar(len(clips), show=sys.stderr.isatty()) as advance,
    ):
        for event in events:
            if event.score:
                take(event.index, event.score)
            if event.done:
                file.add(clips[event.index], rows.pop(event.index, []), str(event.error) if event.error else None)
                tally.done += 1
                tally.failed += note_end(event, advance)
