"""Scores one clip: python examples/score_a_clip.py clip.mp4 [bundle]"""

import sys

from shortcast import Bundle, Scorer, ShortcastError
from shortcast.runtime.bundle import demo_bundle


def main(clip: str, bundle: str | None = None) -> None:
    with Scorer(Bundle.open(bundle or demo_bundle())) as scorer:
        score = scorer.score(clip)
    low, high = score.interval
    print(f"{score.clip}: {score.value:,.0f} {score.target}, {score.interval_coverage:.0%} between {low:,.0f} and {high:,.0f}")
    for number, probability in enumerate(score.class_probabilities, start=1):
        print(f"  class {number} of {len(score.class_probabilities)}: {probability:.0%}")
    for note in score.notes:
        print(f"  note: {note}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ShortcastError as error:
        sys.exit(f"{error}")
