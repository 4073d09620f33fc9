"""`shortcast score` beside the pipeline people build: the same decoder, eager PyTorch models, Hugging Face's Whisper padded to 30 s.

    python -m shortcast.benchmarks.reference_pipeline samples/sample.mp4 -o reference.json

Processes take turns in an order shuffled in every round, after one round that is thrown away: (shortcast) `shortcast score CLIP`, (padded)
this module's own reference, which decodes with the runtime's `read_chunks`, loads the models as PyTorch modules (rebuilt from the demo
bundle and proved equal before, see `export.from_bundle`: that is in no figure), and hears each chunk with Hugging Face's Whisper padded to
30 s, and (exact) the same with Whisper on the chunk's own window, whose score has to be shortcast's within 1e-4. Wall seconds from start
to exit, peak resident memory as `wait4` has it. Exit code 3 where the exact reference's score differs.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from ..runtime.cpu import available_cpus
from .counted import run_counted

_SAME_Z = 1e-4
_REFERENCES = ("padded", "exact")
_THIS = [sys.executable, "-m", "shortcast.benchmarks.reference_pipeline"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One process."""

    clip: str
    pipeline: str
    round: int
    wall_s: float
    core_s: float
    peak_rss_mib: float
    z: float


@dataclass(frozen=True, slots=True)
class Reference:
    """All samples, in the order they were taken."""

    cpus: int
    machine: str
    python: str
    samples: tuple[Sample, ...]

    def ratio(self, clip: str, pipeline: str, field: str) -> float:
        """Median over the rounds of a pipeline's cost / shortcast's in the same round."""
        costs: dict[tuple[str, int], float] = {(s.pipeline, s.round): getattr(s, field) for s in self.samples if s.clip == clip}
        return median(cost / costs["shortcast", turn] for (name, turn), cost in costs.items() if name == pipeline)


def save_modules(path: Path) -> None:
    """Writes the demo bundle's models as PyTorch modules, once they are proved equal to it."""
    import torch

    from ..export.from_bundle import modules_of
    from ..runtime.bundle import Bundle, demo_bundle

    torch.save(modules_of(Bundle.open(demo_bundle())), path)


def run_reference(clip: Path, modules: Path, *, padded: bool) -> dict[str, float]:
    """The reference pipeline, in this process: the clip's score in standardised units."""
    import numpy as np
    import torch

    from ..export.torch_engine import fusion_engine, visual_engine
    from ..export.whisper_reference import WhisperReference
    from ..runtime.bundle import WHISPER, Bundle, demo_bundle
    from ..runtime.chunks import ReadOptions, read_chunks
    from ..runtime.engines import Tensors
    from ..runtime.history import History, fusion_feeds
    from ..runtime.threads import ThreadPlan
    from ..runtime.whisper import resolve_whisper

    bundle = Bundle.open(demo_bundle())
    encoder, transformer = torch.load(modules, weights_only=False)  # this module's own file of a moment ago
    seeing, fusing = visual_engine(encoder), fusion_engine(transformer)
    sound = bundle.contract.sound
    whisper = WhisperReference.load(resolve_whisper(sound.whisper, bundled=bundle.path / WHISPER).path)
    dims = {spec.name: int(spec.shape[-1]) for spec in fusing.inputs if spec.name in ("visual", "audio")}
    visual, audio = (History(dims[name], bundle.manifest.window_chunks) for name in ("visual", "audio"))
    specs = [spec for spec in seeing.inputs if spec.name not in ("frames", "frame_mask")]
    state: Tensors = {spec.name: np.zeros([1 if isinstance(dim, str) else dim for dim in spec.shape], np.float32) for spec in specs}
    zero, epoch, z = dict(state), 0, float("nan")
    with read_chunks(str(clip), bundle.contract, options=ReadOptions(decode_threads=ThreadPlan.fit().decode)) as chunks:
        for chunk in chunks:
            if chunk.epoch != epoch:
                state, epoch = dict(zero), chunk.epoch
            seen = heard = None
            if chunk.has_pictures:
                mask = chunk.frame_mask[None].astype(np.float32)
                outputs = seeing.run({"frames": chunk.frames[None], "frame_mask": mask, **state})
                state, seen = {name: outputs[f"{name}_out"] for name in state}, outputs["embedding"][0]
            if chunk.has_sound:
                heard = whisper.embed(chunk.samples, chunk.sample_mask, tail_silence_s=sound.tail_silence_s, padded=padded)
            visual.add(seen)
            audio.add(heard)
            z = float(fusing.run(fusion_feeds(visual.shown(), audio.shown()))["score"][0, -1])
    return {"z": z}


def measure(clips: list[Path], *, rounds: int) -> Reference:
    """Takes all samples, after one round for each clip that is thrown away."""
    samples = []
    with tempfile.TemporaryDirectory() as scratch:
        modules = Path(scratch) / "modules.pt"
        subprocess.run([*_THIS, "--save", str(modules)], check=True)
        for clip in clips:
            for turn in range(-1, rounds):
                turns = ["shortcast", *_REFERENCES]
                random.Random(turn).shuffle(turns)
                samples += [_run(clip, pipeline, turn, modules) for pipeline in turns]
    return Reference(available_cpus(), platform.platform(), platform.python_version(), tuple(s for s in samples if s.round >= 0))


def _run(clip: Path, pipeline: str, turn: int, modules: Path) -> Sample:
    command = [sys.executable, "-m", "shortcast", "score", str(clip), "--format", "jsonl"]
    if pipeline != "shortcast":
        command = [*_THIS, str(clip), "--reference", pipeline, "--modules", str(modules)]
    done = run_counted(command)
    last = json.loads(done.said.splitlines()[-1])
    return Sample(clip.name, pipeline, turn, done.wall_s, done.core_s, done.peak_rss_mib, last["z"])


def main() -> None:
    """Measures, prints ratios and writes the raw samples."""
    parser = argparse.ArgumentParser(description="shortcast score beside the PyTorch reference pipeline.")
    parser.add_argument("clips", type=Path, nargs="*")
    parser.add_argument("--save", type=Path, help="only write the models as PyTorch modules")
    parser.add_argument("--modules", type=Path, help="what --save wrote, for --reference")
    parser.add_argument("--reference", choices=_REFERENCES, help="only run this reference on one clip, in this process")
    parser.add_argument("-o", "--output", type=Path, help="where the raw samples go, as JSON")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.save:
        save_modules(arguments.save)
        return
    if not arguments.clips:
        parser.error("name one clip or more")
    if arguments.reference:
        print(json.dumps(run_reference(arguments.clips[0], arguments.modules, padded=arguments.reference == "padded")))
        return
    result = measure(arguments.clips, rounds=arguments.rounds)
    worst = 0.0
    for clip in arguments.clips:
        print(f"{clip.name}, {arguments.rounds} rounds on {result.cpus} CPUs, Python {result.python}")
        z = {sample.pipeline: sample.z for sample in result.samples if sample.clip == clip.name}
        worst = max(worst, abs(z["exact"] - z["shortcast"]))
        for pipeline in ("shortcast", *_REFERENCES):
            rows = [sample for sample in result.samples if (sample.clip, sample.pipeline) == (clip.name, pipeline)]
            wall_s, rss = median(row.wall_s for row in rows), median(row.peak_rss_mib for row in rows)
            wall, memory = (result.ratio(clip.name, pipeline, field) for field in ("wall_s", "peak_rss_mib"))
            difference = z[pipeline] - z["shortcast"]
            print(f"{pipeline:<10}{wall_s:7.2f} s ({wall:.2f} x) {rss:7.0f} MiB ({memory:.2f} x)  z {z[pipeline]:.5f} ({difference:+.1e})")
    if arguments.output:
        arguments.output.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
    if worst > _SAME_Z:
        raise SystemExit(3)


if __name__ == "__main__":
    main()
