"""Scores a clip while it arrives, and stops when it is sure enough: curl -s URL | python examples/stream_a_clip.py"""

import sys
from typing import BinaryIO

from shortcast import Bundle, Scorer
from shortcast.runtime.bundle import demo_bundle

SURE = 0.7
"""Probability of one class from which the rest of the clip is not waited for."""


def main(clip: BinaryIO) -> None:
    with Scorer(Bundle.open(demo_bundle())) as scorer:
        for score in scorer.stream(clip):
            best = max(score.class_probabilities)
            print(
                f"after {score.end_s:5.1f} s: {score.value:10,.0f} {score.target}, class {score.predicted_class} ({best:.0%})", flush=True
            )
            if best >= SURE:
                print("sure enough")
                break


if __name__ == "__main__":
    main(sys.stdin.buffer)
