"""What `shortcast score` costs beside the `ffmpeg` command that only decodes the same clip to the same size and rate.

    python -m shortcast.benchmarks.decode_cost -o decode-cost.json
    python -m shortcast.benchmarks.decode_cost --clip some.mp4 --rounds 7

Without `--clip` two clips of 30 s are made once and kept in the user's cache folder: 1080x1920 at 6 Mb/s and 576x1024 at 1.5 Mb/s, 30
pictures a second, H.264 High with three B-frames, AAC; their pictures are `--footage` looped, scaled up and made noisy, as a phone's are.
Four processes take turns in an order shuffled in every round, after one round that is thrown away: (ffmpeg) `ffmpeg -vf
fps=8,scale=96:160 -f null -` with its sound to 16 kHz mono, (exact) `shortcast score`, (fast) `shortcast score --decode fast`,
(decode) the runtime's own decoder alone. Core-seconds are user and system time of the process as `wait4` counts them; ratios are medians
over rounds. All samples are kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import av

from ..runtime.cpu import available_cpus
from .counted import run_counted

SIZES = {"1080x1920": "6000k", "576x1024": "1500k"}
_SECONDS = 30
_DECODE = """
import sys
from shortcast.runtime.bundle import Bundle, demo_bundle
from shortcast.runtime.chunks import ReadOptions, read_chunks
from shortcast.runtime.threads import ThreadPlan
options = ReadOptions(decode_threads=ThreadPlan.fit().decode)
with read_chunks(sys.argv[1], Bundle.open(demo_bundle()).contract, options=options) as chunks:
    for chunk in chunks:
        pass
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One process."""

    clip: str
    variant: str
    round: int
    wall_s: float
    core_s: float
    peak_rss_mib: float
    z: float | None
    """The clip's score, where there is one."""


@dataclass(frozen=True, slots=True)
class DecodeCost:
    """All samples, in the order they were taken."""

    cpus: int
    machine: str
    python: str
    av: str
    ffmpeg: str
    clips: dict[str, str]
    """By name, SHA-256."""
    samples: tuple[Sample, ...]

    def ratio(self, clip: str, variant: str, field: str) -> float:
        """Median over the rounds of a variant's cost / ffmpeg's in the same round."""
        costs: dict[tuple[str, int], float] = {(s.variant, s.round): getattr(s, field) for s in self.samples if s.clip == clip}
        return median(cost / costs["ffmpeg", turn] for (name, turn), cost in costs.items() if name == variant)


def commands(clip: Path) -> dict[str, list[str]]:
    """The processes that are compared."""
    score = [sys.executable, "-m", "shortcast", "score", str(clip), "--format", "jsonl"]
    pictures, sound = ["-map", "0:v:0", "-vf", "fps=8,scale=96:160"], ["-map", "0:a:0", "-ar", "16000", "-ac", "1"]
    return {
        "ffmpeg": ["ffmpeg", "-nostdin", "-v", "error", "-i", str(clip), *pictures, *sound, "-f", "null", "-"],
        "exact": score,
        "fast": [*score, "--decode", "fast"],
        "decode": [sys.executable, "-c", _DECODE, str(clip)],
    }


def measure(clips: list[Path], *, rounds: int) -> DecodeCost:
    """Takes all samples, after one round for each clip that is thrown away."""
    samples = []
    for clip in clips:
        for turn in range(-1, rounds):
            turns = list(commands(clip).items())
            random.Random(turn).shuffle(turns)
            samples += [_run(clip, variant, turn, command) for variant, command in turns]
    version = subprocess.run(["ffmpeg", "-version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
    hashes = {clip.name: hashlib.sha256(clip.read_bytes()).hexdigest() for clip in clips}
    kept = tuple(sample for sample in samples if sample.round >= 0)
    return DecodeCost(available_cpus(), platform.platform(), platform.python_version(), av.__version__, version, hashes, kept)


def _run(clip: Path, variant: str, turn: int, command: list[str]) -> Sample:
    done = run_counted(command)
    z = json.loads(done.said.splitlines()[-1])["z"] if done.said.strip() else None
    return Sample(clip.name, variant, turn, done.wall_s, done.core_s, done.peak_rss_mib, z)


def make_clip(size: str, footage: Path, folder: Path) -> Path:
    """A clip of 30 s, made once for each footage."""
    path = folder / f"decode-cost-{size}-{hashlib.sha256(footage.read_bytes()).hexdigest()[:12]}.mp4"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    aside, rate = path.with_suffix(".part.mp4"), SIZES[size]
    width, height = size.split("x")
    filters = f"crop='min(iw,ih*9/16)':ih,scale={width}:{height}:flags=bicubic,noise=alls=6:allf=t:all_seed=1,format=yuv420p"
    video = ["-c:v", "libx264", "-profile:v", "high", "-bf", "3", "-b:v", rate, "-maxrate", rate, "-bufsize", "12M"]
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-stream_loop", "-1", "-i", str(footage), "-t", str(_SECONDS), "-r", "30"]
    audio = ["-c:a", "aac", "-b:a", "128k", "-ar", "44100", "-movflags", "+faststart"]
    subprocess.run([*command, "-vf", filters, *video, *audio, str(aside)], check=True)
    aside.rename(path)
    return path


def cache_folder() -> Path:
    """Where made clips are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shortcast-benchmarks"


def main() -> None:
    """Measures, prints ratios and writes the raw samples."""
    parser = argparse.ArgumentParser(description="What shortcast score costs beside ffmpeg, which only decodes.")
    parser.add_argument("--clip", type=Path, action="append", help="measure this clip instead; it may be given again")
    parser.add_argument("--footage", type=Path, default=Path("samples/sample.mp4"), help="what the made clips show")
    parser.add_argument("-o", "--output", type=Path, help="where the raw samples go, as JSON")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if not shutil.which("ffmpeg"):
        raise SystemExit("ffmpeg is not installed: it is what is compared with")
    clips = arguments.clip or [make_clip(size, arguments.footage, cache_folder()) for size in SIZES]
    result = measure(clips, rounds=arguments.rounds)
    for clip in clips:
        print(f"{clip.name}, {arguments.rounds} rounds on {result.cpus} CPUs, {result.ffmpeg}")
        for variant in commands(clip):
            rows = [sample for sample in result.samples if (sample.clip, sample.variant) == (clip.name, variant)]
            core_s, wall_s = median(row.core_s for row in rows), median(row.wall_s for row in rows)
            core, wall = (result.ratio(clip.name, variant, field) for field in ("core_s", "wall_s"))
            scored = "" if rows[0].z is None else f"z {rows[0].z:.4f}"
            print(f"{variant:<8} {core_s:7.2f} core-s ({core:.2f} x)  {wall_s:7.2f} s wall ({wall:.2f} x)  {scored}")
    if arguments.output:
        arguments.output.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
