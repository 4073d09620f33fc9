"""How far `--decode fast` moves scores, over every clip of a folder.

    python -m shortcast.benchmarks.decode_shift FOLDER -o decode-shift.json

Every video below the folder is scored twice with the demo bundle, exactly and fast. A table by codec gives the mean and largest shift of
the standardised score, clips whose class changed, and slots of the picture grid that exact decoding fills and fast decoding does not.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import MediaError
from ..runtime.bundle import Bundle, demo_bundle
from ..runtime.chunks import ReadOptions, read_chunks
from ..runtime.scorer import Scorer

MODES = (ReadOptions(), ReadOptions(decode="fast"))


@dataclass(frozen=True, slots=True)
class Shift:
    """One clip."""

    clip: str
    codec: str
    z: tuple[float, float]
    """Exact and fast."""
    predicted_class: tuple[int, int]
    slots: tuple[int, int]
    """Filled."""

    @property
    def shift(self) -> float:
        return abs(self.z[1] - self.z[0])


def measure(paths: list[Path], root: Path) -> list[Shift]:
    """Scores all clips that have pictures and decode."""
    shifts = []
    bundle = Bundle.open(demo_bundle())
    with Scorer(bundle) as scorer:
        for path in paths:
            try:
                codec, exact = _slots(path, bundle, MODES[0])
                _, fast = _slots(path, bundle, MODES[1])
                scores = [scorer.score(path, options=mode) for mode in MODES]
            except MediaError:  # broken clips are no part of it
                continue
            if codec:
                z, classes = (scores[0].z, scores[1].z), (scores[0].predicted_class, scores[1].predicted_class)
                shifts.append(Shift(str(path.relative_to(root)), codec, z, classes, (exact, fast)))
    return shifts


def _slots(path: Path, bundle: Bundle, options: ReadOptions) -> tuple[str | None, int]:
    with read_chunks(path, bundle.contract, options=options) as chunks:
        filled = sum(int(chunk.frame_mask.sum()) for chunk in chunks)
        return chunks.info.video_codec, filled


def main() -> None:
    """Measures, prints a table and writes the raw samples."""
    parser = argparse.ArgumentParser(description="How far --decode fast moves scores.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    shifts = measure(sorted(path for path in arguments.folder.rglob("*.*") if path.is_file()), arguments.folder)
    by_codec = defaultdict(list)
    for shift in shifts:
        by_codec[shift.codec].append(shift)
    print(f"{'codec':<8} clips  mean |dz|  max |dz|  class changes  slots  slots lost")
    for codec, rows in [*sorted(by_codec.items()), ("all", shifts)]:
        values = [row.shift for row in rows]
        changed = sum(len(set(row.predicted_class)) > 1 for row in rows)
        filled, lost = sum(row.slots[0] for row in rows), sum(max(0, row.slots[0] - row.slots[1]) for row in rows)
        print(f"{codec:<8}{len(rows):6d}  {sum(values) / len(values):9.5f} {max(values):9.5f}  {changed:13d} {filled:6d}  {lost:10d}")
    if arguments.output:
        arguments.output.write_text(json.dumps([asdict(shift) for shift in shifts], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
