"""Ranks the videos of a folder, two at a time: python examples/score_many_clips.py folder"""

import sys
from contextlib import closing
from pathlib import Path

from shortcast import Bundle, Scorer, score_many
from shortcast.runtime.bundle import demo_bundle
from shortcast.runtime.score import Score


def main(folder: str) -> None:
    clips = sorted(Path(folder).rglob("*.mp4"))
    scores: list[Score] = []
    with Scorer(Bundle.open(demo_bundle()), threads=1) as scorer, closing(score_many(scorer, clips, jobs=2)) as events:
        for event in events:
            if event.score:
                scores.append(event.score)
            else:
                print(event.error, file=sys.stderr)
    for score in sorted(scores, key=lambda score: score.z, reverse=True):
        print(f"{score.value:12,.0f} {score.target}  {score.clip}")


if __name__ == "__main__":
    main(sys.argv[1])
