"""What stopping early saves and costs: every clip is scored whole, chunk by chunk, and then left where each rule would have left it.

    python -m shortcast.benchmarks.until_settled MANIFEST-OR-FOLDER --bundle BUNDLE -o until-settled.json

(A) Every clip (or the first `--twice` of them) is scored twice in turn, whole and with `UntilSettled` as the command line has it, one clip
at a time: core-seconds (user and system) of the process for each. (B) From the scores of the whole run, with no further scoring, what
each rule would have done: the bundle's own for a grid of confidences; a plain threshold on the probability of the class, with several
patiences; and stopping after a fixed number of chunks. For each: seconds not read, clips that kept their class or interval, how far the
score still moved, and, where the manifest knows the truth, the error of the scores as they stood against that of the whole clips, with
percentile intervals over whole authors. The clips should be others than those that trained the model and that made its settling table.
Every clip's scores are kept in the file.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from ..errors import MediaError
from ..runtime.bundle import Bundle, demo_bundle
from ..runtime.clip_list import list_clips
from ..runtime.cpu import available_cpus
from ..runtime.early import Until, UntilSettled
from ..runtime.scorer import Scorer
from ..runtime.settle import path_of
from ..runtime.settling import KINDS
from ..runtime.settling_fit import ClipPath
from ..training.bootstrap import Bootstrap
from ..training.clips import read_manifest
from ..training.targets import target_values
from .settled_rules import ClipRun, ratio, replay

_DIGITS = 5


def measure(
    source: Path, bundle: Bundle, *, until: Until, threads: int, known: Sequence[ClipRun] = (), limit: int | None, twice: int | None
) -> list[ClipRun]:
    """Scores clips; what cannot be scored is said and left out.

    Args:
        source: a manifest or a folder.
        bundle: what to score with; it has a settling table.
        until: the rule of the real run.
        threads: CPUs for one stream.
        known: runs of an earlier call, which are not repeated.
        limit: clips to score now at most; None: all.
        twice: how many clips are scored twice, for their core-seconds; None: all.
    """
    names = {run.clip for run in known}
    runs = list(known)
    with Scorer(bundle, threads=threads) as scorer:
        settling = UntilSettled(scorer, until)
        todo = [(path, author, truth_z) for path, author, truth_z in _clips(source, bundle) if path.name not in names]
        warm = False
        for path, author, truth_z in todo[:limit]:
            try:
                if not warm:  # loads what is loaded once
                    scorer.score(path)
                    warm = True
                again = twice is None or len(runs) < twice
                runs.append(_run(scorer, settling if again else None, path, author, truth_z))
            except MediaError as error:
                print(error)
    return runs


def _run(scorer: Scorer, settling: UntilSettled | None, path: Path, author: str | None, truth_z: float | None) -> ClipRun:
    """One clip, whole and, where there is a rule to follow, again until it is settled."""
    started = process_time()
    said = path_of(list(scorer.stream(path)), scorer.bundle.manifest.target)
    between = process_time()
    if settling is None:
        return ClipRun(path.name, author, truth_z, said)
    last = settling.score(path)
    return ClipRun(path.name, author, truth_z, said, between - started, process_time() - between, last.end_s)


def _clips(source: Path, bundle: Bundle) -> Iterator[tuple[Path, str | None, float | None]]:
    if source.is_dir():
        yield from ((Path(clip.source), None, None) for clip in list_clips([str(source)], once=True))
        return
    rows = read_manifest(source)
    values = target_values(rows, bundle.manifest.target.name)
    for row in rows:
        yield row.path, row.author, float(bundle.manifest.target.standardise(values[row.id]))


def _raw(run: ClipRun) -> dict[str, Any]:
    """A clip's scores as the file has them."""
    path = {
        name: np.asarray(getattr(run.path, name)).round(_DIGITS).tolist() for name in ("z", "interval_z", "class_probabilities", "end_s")
    }
    return {
        **{name: getattr(run, name) for name in ("clip", "author", "truth_z", "whole_core_s", "settled_core_s", "settled_end_s")},
        **path,
    }


def _read(path: Path | None, bundle: Bundle) -> list[ClipRun]:
    """The clips of an earlier call."""
    if path is None or not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["bundle"] != bundle.manifest.id:
        raise SystemExit(f"{path} was measured with another bundle; leave out --resume")
    names = [field.name for field in fields(ClipPath)]
    return [
        ClipRun(**{key: value for key, value in run.items() if key not in names}, path=ClipPath(*(np.array(run[name]) for name in names)))
        for run in found["runs"]
    ]


def report(runs: Sequence[ClipRun], bundle: Bundle, until: Until, *, threads: int, resamples: int = 1000) -> dict[str, Any]:
    """Everything that was measured, the raw samples last."""
    whole_s = float(sum(run.path.end_s[-1] for run in runs))
    settling = bundle.manifest.settling
    bootstrap = Bootstrap([run.author for run in runs], resamples=resamples)
    twice = [run for run in runs if run.settled_core_s is not None]
    whole_core_s, settled_core_s = (
        np.array([getattr(run, name) for run in twice], dtype=np.float64) for name in ("whole_core_s", "settled_core_s")
    )
    both = Bootstrap([run.author for run in twice], resamples=resamples) if twice else None
    return {
        "bundle": bundle.manifest.id,
        "settling": settling.provenance if settling else None,
        "clips": len(runs),
        "authors": len(bootstrap.groups),
        "media_s": round(whole_s, 1),
        "chunks": np.quantile([len(run.path.z) for run in runs], [0, 0.25, 0.5, 0.75, 1]).tolist(),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "cpus": available_cpus(),
        "threads": threads,
        "measured": {
            "rule": f"{until.kind} settled at {until.confidence:g}",
            "clips": len(twice),
            "whole_core_s": float(whole_core_s.sum()),
            "settled_core_s": float(settled_core_s.sum()),
            "saved": asdict(both.interval(ratio, whole_core_s, whole_core_s - settled_core_s)) if both else None,
        },
        "rules": [asdict(result) for result in replay(runs, bundle, resamples=resamples)],
        "runs": [_raw(run) for run in runs],
    }


def main() -> None:
    """Measures, prints a table and writes the results with their raw samples."""
    parser = argparse.ArgumentParser(description="What stopping early saves and costs.")
    parser.add_argument("source", type=Path, help="a manifest, or a folder of clips nobody knows the success of")
    parser.add_argument("--bundle", type=Path, default=demo_bundle())
    parser.add_argument("--kind", choices=KINDS, default="class")
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--threads", type=int, default=available_cpus())
    parser.add_argument("--resamples", type=int, default=1000, help="of authors, for the intervals")
    parser.add_argument("--limit", type=int, help="score no more clips than this now")
    parser.add_argument("--twice", type=int, help="score no more clips than this twice, for their core-seconds")
    parser.add_argument("--resume", action="store_true", help="go on with the clips that the output file has")
    parser.add_argument("-o", "--output", type=Path, help="where the results go, as JSON")
    arguments = parser.parse_args()
    bundle, until = Bundle.open(arguments.bundle), Until(arguments.kind, arguments.confidence)
    known = _read(arguments.output, bundle) if arguments.resume else []
    runs = measure(
        arguments.source, bundle, until=until, threads=arguments.threads, known=known, limit=arguments.limit, twice=arguments.twice
    )
    found = report(runs, bundle, until, threads=arguments.threads, resamples=arguments.resamples)
    for line in _lines(found):
        print(line)
    if arguments.output:
        arguments.output.write_text(json.dumps(found) + "\n", encoding="utf-8")


def _lines(found: dict[str, Any]) -> Iterator[str]:
    measured = found["measured"]
    yield f"{found['clips']} clips, {found['media_s']:.0f} s"
    if measured["saved"]:
        yield (
            f"{measured['rule']}, {measured['clips']} clips scored twice: {measured['settled_core_s']:.1f} core-seconds for "
            f"{measured['whole_core_s']:.1f} of whole clips, {_share(measured['saved'])} saved"
        )
    for rule in found["rules"]:
        cost = rule["cost"]
        error = f", MSE {cost['mse']:.3f} ({_signed(cost['mse_difference'])}), accuracy {cost['accuracy']:.3f}" if cost else ""
        yield f"{rule['rule']:34} stops {rule['stopped']:4}, kept {_share(rule['kept_share'])}, unread {_share(rule['unread'])}{error}"


def _share(interval: dict[str, Any]) -> str:
    if interval["estimate"] is None:
        return "-"
    return f"{interval['estimate']:.3f}" + (f" [{interval['low']:.3f}, {interval['high']:.3f}]" if interval["low"] is not None else "")


def _signed(interval: dict[str, Any]) -> str:
    return f"{interval['estimate']:+.3f} [{interval['low']:+.3f}, {interval['high']:+.3f}]" if interval["low"] is not None else "-"


if __name__ == "__main__":
    main()
