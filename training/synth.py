"""Made clips: real encoded files whose success follows a known rule, so that a trained model can be held against what there was to learn.

Every clip is drawn from latent factors in [0, 1], painted (`scenes`), played and spoken (`soundtrack`), encoded (`render`), and given
views by the rule in `success`. Its manifest row carries the factors; the file itself tells nothing of its success but what is in
pictures and sound.

Clip i is a function of (seed, i) alone, whatever the number of clips or jobs; another range of lengths makes other clips. Six clips in
a row share an author, and authors take turns in the splits: of twenty, fourteen train, three validate and three test.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import signal
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .clips import ClipRow, write_manifest
from .render import ClipPlan, PictureKind, SoundKind, render
from .soundtrack import HOOKS, LEAD_S, PLAIN, SLOT_S, VOICES, Line, slots
from .speech import Speaker, Voice
from .success import (
    AUTHOR_STD,
    BLACK_SHARE,
    CLIPS_PER_AUTHOR,
    LONGEST_S,
    NO_TRACK_SHARE,
    NOISE_STD,
    OUTLIER_LOG_VIEWS,
    OUTLIER_SHARE,
    SHORTEST_S,
    SILENT_SHARE,
    SPEECH_SHARE,
    STILL_SHARE,
    Factors,
    expected_log_views,
    factor_table,
)

RECIPE = 1
"""Goes up whenever the same (seed, i) gives another clip."""

SPLIT_TURNS = ("train", "val", "test", "train", "train", "train", "train") * 2 + ("train", "val", "test", "train", "train", "train")

LENGTHS_S = (SHORTEST_S, LONGEST_S)
MOST_S = 600.0
"""The longest clip that is made: its sound is held in memory."""

FRAME_RATES = (Fraction(15), Fraction(24), Fraction(25), Fraction(30000, 1001))
# Shares of (coded width, coded height, rotation in degrees counter-clockwise); mostly 9:16, as people film.
FORMATS = {
    (180, 320, 0): 0.36,
    (216, 384, 0): 0.30,
    (144, 256, 0): 0.14,
    (240, 240, 0): 0.08,
    (320, 180, 0): 0.06,
    (320, 180, 90): 0.03,
    (320, 180, 270): 0.03,
}
TRACK_RATES_HZ = (44_100, 48_000, 32_000)


def synthesise(
    out_dir: Path | str,
    *,
    clips: int,
    seed: int = 0,
    lengths_s: tuple[float, float] = LENGTHS_S,
    jobs: int = 1,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Makes a folder of clips and their manifest, or finishes one that was interrupted.

    The manifest is written last. Clips are written aside and renamed whole, so an interruption leaves whole clips only, and the next
    call with the same seed renders those that are missing.

    Args:
        out_dir: the folder; made where missing.
        clips: how many, at least 1.
        seed: clip i is a function of (seed, i).
        lengths_s: the shortest and the longest clip there may be; lengths are even on a logarithmic scale.
        jobs: processes to render with.
        force: use a folder that holds something else: files of the names that are written here are removed, others stay.
        progress: called with (finished, all) after every clip.

    Returns:
        The manifest, `out_dir/manifest.jsonl`.

    Raises:
        DataError: the folder holds something else, cannot be written, or `espeakng-loader` is missing.
    """
    if clips < 1 or jobs < 1 or seed < 0:
        raise DataError(f"expected clips and jobs of at least 1 and a seed of at least 0, got {clips}, {jobs} and {seed}")
    shortest_s, longest_s = lengths_s
    if not 1 <= shortest_s <= longest_s <= MOST_S:
        raise DataError(f"expected lengths that rise from at least 1 s to at most {MOST_S:.0f} s, got {shortest_s:g} s to {longest_s:g} s")
    Speaker()
    folder = Path(out_dir).absolute()
    _claim(folder, seed, lengths_s, force=force)
    missing = [index for index in range(clips) if not _clip_path(folder, index).exists()]
    report = progress or (lambda finished, total: None)
    report(clips - len(missing), clips)
    with closing(_render_all(folder, seed, lengths_s, missing, jobs)) as rendered:
        for finished, _ in enumerate(rendered, start=clips - len(missing) + 1):
            report(finished, clips)
    return write_manifest(folder / "manifest.jsonl", (clip_row(plan_clip(seed, index, lengths_s), folder) for index in range(clips)))


def plan_clip(seed: int, index: int, lengths_s: tuple[float, float] = LENGTHS_S) -> ClipPlan:
    """Draws one clip: a function of these and of nothing else."""
    rng = np.random.default_rng((seed, index, 0))
    u = {name: float(rng.random()) for name in ("motion", "brightness", "warmth", "cuts", "tempo", "energy", "timbre")}
    fps = FRAME_RATES[rng.integers(len(FRAME_RATES))]
    shortest_s, longest_s = lengths_s
    frames = round(shortest_s * (longest_s / shortest_s) ** rng.random() * fps)
    width, height, rotation = list(FORMATS)[rng.choice(len(FORMATS), p=list(FORMATS.values()))]
    picture, sound = _kinds(rng)
    speaks = sound == "track" and rng.random() < SPEECH_SHARE
    lines, hook = _lines(float(frames / fps), rng) if speaks else ((), None)
    return ClipPlan(
        seed=seed,
        index=index,
        factors=_factors(u, picture, sound, float(speaks), hook),
        picture=picture,
        sound=sound,
        lines=lines,
        voice=Voice(VOICES[rng.integers(len(VOICES))], int(rng.integers(35, 66)), int(rng.integers(165, 186))),
        width=height if rotation else width,
        height=width if rotation else height,
        rotation=rotation,
        fps=fps,
        frames=frames,
        track_rate_hz=TRACK_RATES_HZ[rng.integers(len(TRACK_RATES_HZ))],
        channels=1 if rng.random() < 0.7 else 2,
    )


def clip_row(plan: ClipPlan, folder: Path) -> ClipRow:
    """The manifest's row of a clip; needs no rendering."""
    rng = np.random.default_rng((plan.seed, plan.index, 1))
    author = plan.index // CLIPS_PER_AUTHOR
    author_effect = np.random.default_rng((plan.seed, author, 2)).normal(0, AUTHOR_STD)
    outlier = OUTLIER_LOG_VIEWS if rng.random() < OUTLIER_SHARE else 0.0
    log_views = expected_log_views(factor_table([asdict(plan.factors)]))[0] + author_effect + rng.normal(0, NOISE_STD) + outlier
    views = max(0, round(math.expm1(log_views)))
    likes = round(views * _squash(rng.normal(-2.4, 0.5)))
    return ClipRow(
        id=f"made-{plan.index:06d}",
        path=_clip_path(folder, plan.index),
        split=SPLIT_TURNS[author % len(SPLIT_TURNS)],
        author=f"author-{author:05d}",
        columns={
            "views": views,
            "likes": likes,
            "comments": round(likes * _squash(rng.normal(-3.2, 0.7))),
            "duration_s": round(plan.duration_s, 6),
            "factors": asdict(plan.factors),
        },
    )


def _squash(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _kinds(rng: np.random.Generator) -> tuple[PictureKind, SoundKind]:
    picture, sound = rng.random(2)
    return (
        "black" if picture < BLACK_SHARE else "still" if picture < BLACK_SHARE + STILL_SHARE else "film",
        "none" if sound < NO_TRACK_SHARE else "silent" if sound < NO_TRACK_SHARE + SILENT_SHARE else "track",
    )


def _factors(u: Mapping[str, float], picture: str, sound: str, speech: float, hook: float | None) -> Factors:
    seen, moves, heard = picture != "black", picture == "film", sound == "track"
    return Factors(
        motion=u["motion"] if moves else 0.0 if seen else None,
        brightness=u["brightness"] if seen else None,
        warmth=u["warmth"] if seen else None,
        cuts=u["cuts"] if moves else 0.0 if seen else None,
        tempo=u["tempo"] if heard else None,
        energy=u["energy"] if heard else None,
        timbre=u["timbre"] if heard else None,
        speech=speech if heard else None,
        hook=hook,
    )


def _lines(duration_s: float, rng: np.random.Generator) -> tuple[tuple[Line, ...], float]:
    """One sentence a slot, k of n of them hooks with k uniform, and the share k / n. Only where there are too few does one come again."""
    count = slots(duration_s)
    hooks = int(rng.integers(count + 1))
    plain = count - hooks
    texts = [*rng.choice(HOOKS, hooks, replace=hooks > len(HOOKS)), *rng.choice(PLAIN, plain, replace=plain > len(PLAIN))]
    starts = np.arange(count) * SLOT_S + rng.uniform(0.05, LEAD_S, count)
    return tuple(Line(str(texts[i]), float(start)) for i, start in zip(rng.permutation(count), starts, strict=True)), hooks / count


_DIGITS = "[0-9]" * 6


def _claim(folder: Path, seed: int, lengths_s: tuple[float, float], *, force: bool) -> None:
    """Makes the folder ours: fresh, one to go on with, or, by force, one that held something else."""
    lengths = {} if lengths_s == LENGTHS_S else {"lengths_s": list(lengths_s)}
    note, recipe = folder / "recipe.json", {"made_by": "shortcast data synth", "recipe": RECIPE, "seed": seed, **lengths}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _read_note(note) != recipe:
            if any(folder.iterdir()) and not force:
                raise DataError(
                    f"{folder} is not empty and holds no clips of this recipe and seed {seed}; choose another folder or add --force"
                )
            for old in (folder / "manifest.jsonl", note, *folder.glob(f"clips/{_DIGITS}.mp4")):
                old.unlink(missing_ok=True)
        (folder / "clips").mkdir(exist_ok=True)
        for part in folder.glob(f"clips/{_DIGITS}.part"):
            part.unlink()
        note.write_text(json.dumps(recipe) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder} cannot be used for clips: {error}") from error


def _read_note(note: Path) -> Any:
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _clip_path(folder: Path, index: int) -> Path:
    return folder / "clips" / f"{index:06d}.mp4"


def _render_all(folder: Path, seed: int, lengths_s: tuple[float, float], indices: Sequence[int], jobs: int) -> Generator[int, None, None]:
    """Renders clips and yields each index when its file is whole."""
    if jobs == 1 or len(indices) < 2:
        for index in indices:
            yield _render_one(folder, seed, lengths_s, index)
        return
    # Spawned, not forked: FFmpeg's and Python's threads don't survive a fork.
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_leave_interrupts_to_parent)
    try:
        for done in as_completed([pool.submit(_render_one, folder, seed, lengths_s, index) for index in indices]):
            yield done.result()
    except BrokenProcessPool as error:
        raise DataError("a rendering process died, perhaps for want of memory; run again with fewer --jobs to go on") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    """Ctrl-C reaches every process of a terminal; the parent cancels what has not begun, and begun clips are finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _render_one(folder: Path, seed: int, lengths_s: tuple[float, float], index: int) -> int:
    render(plan_clip(seed, index, lengths_s), _clip_path(folder, index))
    return index
