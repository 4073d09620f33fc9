"""Made clips whose success follows a known rule, so that a trained model can be held against what there was to learn.

Every clip is drawn from latent factors in [0, 1], painted (`scenes`), played and spoken (`soundtrack`), and encoded as H.264 and AAC
in MP4. Its success is

    log(1 + views) = 9 + sum of w * u(factor) + 0.45 * u(motion) * u(energy)
                       + author + noise + outlier

where u centres a factor and divides by its standard deviation, 0.5 and 1/sqrt(12) but for `speech`, which is 0 or 1:

    seen   w      motion 0.60, brightness 0.48, warmth 0.45
    heard  w      tempo 0.38, energy 0.50, speech 0.50, hook 0.40 (the share of sentences that are hooks, where there is speech)
    idle          cuts, timbre, voice, length, size and frame rate have no effect
    not in the clip: author N(0, 0.25), noise N(0, 0.55), and for one clip in a hundred an outlier of +2.5

A factor that a clip doesn't have adds nothing: pictures of a black clip, sound of a clip without a track or with a silent one, hooks
where nobody speaks. So the median clip has some 8,000 views, the distribution is log-normal with a heavy upper tail, and nobody who
sees and hears a clip can explain more of log(1 + views) than `ceiling_r2` says: about 0.80, or 0.37 from pictures alone and 0.35 from
sound alone.

Clip i is a function of (seed, i) alone, whatever the number of clips or jobs. Six clips in a row share an author, and authors take turns
in the splits: of twenty, fourteen train, three validate and three test.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .clips import ClipRow, write_manifest
from .scenes import Look, Picture, black, film, still
from .soundtrack import HOOKS, LEAD_S, PLAIN, SLOT_S, VOICES, Band, Line, slots, soundtrack
from .speech import RATE_HZ, Speaker, Voice

RECIPE = 1
"""Goes up whenever the same (seed, i) gives another clip."""

SEEN = {"motion": 0.60, "brightness": 0.48, "warmth": 0.45}
HEARD = {"tempo": 0.38, "energy": 0.50, "speech": 0.50, "hook": 0.40}
"""Weights in log views per standard deviation of the factor."""
MOTION_X_ENERGY = 0.45
BASE_LOG_VIEWS = 9.0
AUTHOR_STD, NOISE_STD = 0.25, 0.55
OUTLIER_SHARE, OUTLIER_LOG_VIEWS = 0.01, 2.5

SHORTEST_S, LONGEST_S = 4.0, 20.0
SPEECH_SHARE = 0.65
BLACK_SHARE, STILL_SHARE = 0.03, 0.04
NO_TRACK_SHARE, SILENT_SHARE = 0.08, 0.02
CLIPS_PER_AUTHOR = 6
SPLIT_TURNS = ("train", "val", "test", "train", "train", "train", "train") * 2 + ("train", "val", "test", "train", "train", "train")

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

Given = Literal["both", "seen", "heard"]
"""What a predictor has of a clip."""
Table = Mapping[str, NDArray[np.float64]]
"""Factors by name, each float64 (clips,), NaN where a clip doesn't have one."""


@dataclass(frozen=True, slots=True)
class Factors:
    """The latent factors of one clip, in [0, 1]; None where the clip doesn't have one."""

    motion: float | None
    brightness: float | None
    warmth: float | None
    cuts: float | None
    tempo: float | None
    energy: float | None
    timbre: float | None
    speech: float | None
    """1 where somebody speaks, 0 where nobody does."""
    hook: float | None
    """The share of sentences that are hooks."""


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """Everything about one clip before it is rendered."""

    seed: int
    index: int
    factors: Factors
    picture: Literal["film", "still", "black"]
    sound: Literal["track", "silent", "none"]
    lines: tuple[Line, ...]
    voice: Voice
    width: int
    height: int
    """Both as shown, after rotation."""
    rotation: int
    """Degrees counter-clockwise a player turns the coded picture."""
    fps: Fraction
    frames: int
    track_rate_hz: int
    channels: int

    @property
    def duration_s(self) -> float:
        return float(self.frames / self.fps)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The best any predictor can do that knows the rule but neither author, noise nor outliers."""

    r2: float
    """Expected share of the variance of log(1 + views) explained."""
    spearman: float
    """Expected rank correlation with views."""


def synthesise(
    out_dir: Path | str,
    *,
    clips: int,
    seed: int = 0,
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
        jobs: processes to render with.
        force: use a folder that holds something else; made clips in it are removed, other files stay.
        progress: called with (finished, all) after every clip.

    Returns:
        The manifest, `out_dir/manifest.jsonl`.

    Raises:
        DataError: the folder holds something else, cannot be written, or `espeakng-loader` is missing.
    """
    if clips < 1 or jobs < 1 or seed < 0:
        raise DataError(f"expected clips and jobs of at least 1 and a seed of at least 0, got {clips}, {jobs} and {seed}")
    Speaker()
    folder = Path(out_dir).absolute()
    _claim(folder, seed, force=force)
    missing = [index for index in range(clips) if not _clip_path(folder, index).exists()]
    report = progress or (lambda finished, total: None)
    report(clips - len(missing), clips)
    for rendered, _ in enumerate(_render_all(folder, seed, missing, jobs), start=clips - len(missing) + 1):
        report(rendered, clips)
    return write_manifest(folder / "manifest.jsonl", (clip_row(plan_clip(seed, index), folder) for index in range(clips)))


def plan_clip(seed: int, index: int) -> ClipPlan:
    """Draws one clip: a function of (seed, index) and of nothing else."""
    rng = np.random.default_rng((seed, index, 0))
    u = {name: float(rng.random()) for name in ("motion", "brightness", "warmth", "cuts", "tempo", "energy", "timbre")}
    fps = FRAME_RATES[rng.integers(len(FRAME_RATES))]
    frames = round(SHORTEST_S * (LONGEST_S / SHORTEST_S) ** rng.random() * fps)
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
    log_views = expected_log_views(_table([asdict(plan.factors)]))[0] + author_effect + rng.normal(0, NOISE_STD) + outlier
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


def expected_log_views(factors: Table, given: Given = "both") -> NDArray[np.float64]:
    """The best guess of log(1 + views) that the rule allows.

    Args:
        factors: every factor of the rule, float64 (clips,), NaN where missing.
        given: what of the clip is known. What is not known averages to nothing, as every factor is centred.

    Returns:
        float64 (clips,).
    """
    weights = {**(SEEN if given != "heard" else {}), **(HEARD if given != "seen" else {})}
    guess = sum((weight * _centred(name, factors[name]) for name, weight in weights.items()), np.asarray(BASE_LOG_VIEWS))
    if given == "both":
        guess = guess + MOTION_X_ENERGY * _centred("motion", factors["motion"]) * _centred("energy", factors["energy"])
    return np.asarray(guess)


def ceiling_r2(given: Given = "both") -> float:
    """The R2 in log(1 + views) that no predictor can pass on endless data, from the rule's own variances.

    It counts a still picture's motion as any other.
    """
    pictures, track = 1 - BLACK_SHARE, 1 - NO_TRACK_SHARE - SILENT_SHARE
    lengths = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** ((np.arange(1000) + 0.5) / 1000)
    # k hooks of n sentences, k uniform over 0..n, so the share varies by (n + 2) / 12n and not by 1/12.
    hook_variance = float(np.mean([(slots(s) + 2) / slots(s) for s in lengths]))
    spread = {"tempo": track, "energy": track, "speech": track, "hook": track * SPEECH_SHARE * hook_variance}
    seen = pictures * sum(weight**2 for weight in SEEN.values())
    heard = sum(spread[name] * weight**2 for name, weight in HEARD.items())
    signal = seen + heard + pictures * track * MOTION_X_ENERGY**2
    return {"both": signal, "seen": seen, "heard": heard}[given] / (signal + _unseen_variance())


def ceiling(rows: Sequence[ClipRow], given: Given = "both") -> Ceiling:
    """The ceiling for these very clips, from their factors: what is expected over fresh draws of author, noise and outliers.

    Args:
        rows: made clips, as in their manifest.
        given: what of a clip the predictor has.

    Raises:
        DataError: fewer than two rows, or a row without factors.
    """
    if len(rows) < 2 or any("factors" not in row.columns for row in rows):
        raise DataError("a ceiling needs at least two made clips, each with its factors")
    factors = _table([row.columns["factors"] for row in rows])
    signal, guess = expected_log_views(factors), expected_log_views(factors, given)
    r2 = 1 - (np.mean((signal - guess) ** 2) + _unseen_variance()) / (signal.var() + _unseen_variance())
    rng = np.random.default_rng(0)
    ranks = [_spearman(guess, signal + _unseen(rng, len(rows))) for _ in range(64)]
    return Ceiling(float(r2), float(np.mean(ranks)))


def _unseen_variance() -> float:
    return AUTHOR_STD**2 + NOISE_STD**2 + OUTLIER_SHARE * (1 - OUTLIER_SHARE) * OUTLIER_LOG_VIEWS**2


def _unseen(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    authors = rng.normal(0, AUTHOR_STD, count // CLIPS_PER_AUTHOR + 1).repeat(CLIPS_PER_AUTHOR)[:count]
    return np.asarray(authors + rng.normal(0, NOISE_STD, count) + OUTLIER_LOG_VIEWS * (rng.random(count) < OUTLIER_SHARE))


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Rank correlation; ties don't occur in continuous values but where factors are missing alike, and count in file order."""
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


def _centred(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    mean, variance = (SPEECH_SHARE, SPEECH_SHARE * (1 - SPEECH_SHARE)) if name == "speech" else (0.5, 1 / 12)
    return np.nan_to_num((values - mean) / math.sqrt(variance), nan=0.0)


def _table(factors: Sequence[Mapping[str, Any]]) -> Table:
    """None becomes NaN on the way into float64."""
    return {name: np.array([clip[name] for clip in factors], np.float64) for name in (*SEEN, *HEARD)}


def _squash(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _kinds(rng: np.random.Generator) -> tuple[Literal["film", "still", "black"], Literal["track", "silent", "none"]]:
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
    """One sentence a slot, k of n of them hooks with k uniform, and the share k / n."""
    count = slots(duration_s)
    hooks = int(rng.integers(count + 1))
    texts = [*rng.choice(HOOKS, hooks, replace=hooks > len(HOOKS)), *rng.choice(PLAIN, count - hooks, replace=count - hooks > len(PLAIN))]
    starts = np.arange(count) * SLOT_S + rng.uniform(0.05, LEAD_S, count)
    return tuple(Line(str(texts[i]), float(start)) for i, start in zip(rng.permutation(count), starts, strict=True)), hooks / count


def _claim(folder: Path, seed: int, *, force: bool) -> None:
    """Makes the folder ours: fresh, one to go on with, or, by force, one that held something else."""
    note, recipe = folder / "recipe.json", {"made_by": "shortcast data synth", "recipe": RECIPE, "seed": seed}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _read_note(note) != recipe:
            if any(folder.iterdir()) and not force:
                raise DataError(
                    f"{folder} is not empty and holds no clips of this recipe and seed {seed}; choose another folder or add --force"
                )
            for old in (folder / "manifest.jsonl", note, *folder.glob("clips/*.mp4")):
                old.unlink(missing_ok=True)
        (folder / "clips").mkdir(exist_ok=True)
        for part in folder.glob("clips/*.part"):
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


def _render_all(folder: Path, seed: int, indices: Sequence[int], jobs: int) -> Iterator[int]:
    """Renders clips and yields each index when its file is whole."""
    if jobs == 1 or len(indices) < 2:
        for index in indices:
            yield _render(folder, seed, index)
        return
    # Spawned, not forked: FFmpeg's and Python's threads don't survive a fork.
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_leave_interrupts_to_parent)
    try:
        for done in as_completed([pool.submit(_render, folder, seed, index) for index in indices]):
            yield done.result()
    except BrokenProcessPool as error:
        raise DataError("a rendering process died, perhaps for want of memory; run again with fewer --jobs to go on") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    """Ctrl-C reaches every process of a terminal; the parent cancels what has not begun, and begun clips are finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _render(folder: Path, seed: int, index: int) -> int:
    target = _clip_path(folder, index)
    aside = target.with_suffix(".part")
    plan = plan_clip(seed, index)
    try:
        _encode(aside, plan, _pictures(plan), _sound(plan))
        if plan.rotation:
            _write_rotation(aside, plan.rotation)
        os.replace(aside, target)
    except (OSError, av.FFmpegError) as error:
        raise DataError(f"{target} cannot be written: {error}") from error
    finally:
        aside.unlink(missing_ok=True)
    return index


def _pictures(plan: ClipPlan) -> Iterator[Picture]:
    """Coded pictures: turned so that a player's rotation sets them upright."""
    rng, size = np.random.default_rng((plan.seed, plan.index, 3)), {"height": plan.height, "width": plan.width}
    if plan.picture == "black":
        shown = black(**size, frames=plan.frames)
    else:
        f = plan.factors
        look = Look(f.motion or 0.0, f.brightness or 0.0, f.warmth or 0.0, f.cuts or 0.0)
        if plan.picture == "still":
            shown = still(look, **size, frames=plan.frames, rng=rng)
        else:
            shown = film(look, **size, fps=plan.fps, frames=plan.frames, rng=rng)
    return (np.ascontiguousarray(np.rot90(picture, -plan.rotation // 90)) for picture in shown)


def _sound(plan: ClipPlan) -> NDArray[np.float32] | None:
    """float32 (S,) at `RATE_HZ`, or None for a clip without a track."""
    if plan.sound == "none":
        return None
    if plan.sound == "silent":
        return np.zeros(round(plan.duration_s * RATE_HZ), np.float32)
    f = plan.factors
    band = Band(f.tempo or 0.0, f.energy or 0.0, f.timbre or 0.0)
    rng = np.random.default_rng((plan.seed, plan.index, 4))
    return soundtrack(band, plan.lines, voice=plan.voice, duration_s=plan.duration_s, rng=rng)


def _encode(path: Path, plan: ClipPlan, pictures: Iterator[Picture], sound: NDArray[np.float32] | None) -> None:
    """H.264 and AAC in MP4; sound is muxed as the pictures advance, so that a reader finds them side by side."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        video = out.add_stream("libx264", rate=plan.fps, options={"preset": "superfast", "crf": "30", "threads": "1"})
        video.height, video.width = (plan.width, plan.height) if plan.rotation % 180 else (plan.height, plan.width)
        video.pix_fmt = "yuv420p"
        track = None if sound is None else _Track(out, sound, plan)
        scaler = av.video.reformatter.VideoReformatter()
        for index, picture in enumerate(pictures):
            frame = scaler.reformat(av.VideoFrame.from_ndarray(picture, format="rgb24"), format="yuv420p")
            frame.pts, frame.time_base = index, 1 / plan.fps
            out.mux(video.encode(frame))
            if track:
                track.advance(float((index + 1) / plan.fps))
        out.mux(video.encode(None))
        if track:
            track.finish()


class _Track:
    """The sound of one clip on its way into the file."""

    def __init__(self, out: av.container.OutputContainer, sound: NDArray[np.float32], plan: ClipPlan) -> None:
        layout = "stereo" if plan.channels == 2 else "mono"
        self._out, self._sound, self._sent = out, sound, 0
        self._stream = out.add_stream("aac", rate=plan.track_rate_hz, layout=layout)
        self._stream.bit_rate = 32_000 + 16_000 * plan.channels
        self._resampler = av.AudioResampler(format="fltp", layout=layout, rate=plan.track_rate_hz)

    def advance(self, until_s: float) -> None:
        """Encodes what sounds before a time, in seconds."""
        until = min(self._sound.size, round(until_s * RATE_HZ))
        if until > self._sent:
            frame = av.AudioFrame.from_ndarray(self._sound[None, self._sent : until], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, self._sent, Fraction(1, RATE_HZ)
            self._mux(frame)
            self._sent = until

    def finish(self) -> None:
        """Encodes what is left in the resampler and in the encoder."""
        self._mux(None)
        self._out.mux(self._stream.encode(None))

    def _mux(self, frame: av.AudioFrame | None) -> None:
        for resampled in self._resampler.resample(frame):
            self._out.mux(self._stream.encode(resampled))


def _write_rotation(path: Path, degrees: int) -> None:
    """Sets the display matrix of the first track, the pictures; PyAV before 18 has no call for it.

    ISO 14496-12: `tkhd` version 0 keeps nine 32-bit numbers 40 bytes after its version field, 16.16 fixed point but for the last column.
    """
    turn = {90: (0, -1, 1, 0), 270: (0, 1, -1, 0)}[degrees]
    a, b, c, d = (part << 16 for part in turn)
    matrix = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    content[at : at + len(matrix)] = matrix
    path.write_bytes(content)
