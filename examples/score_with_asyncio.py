"""Follows several sources at once with asyncio: python examples/score_with_asyncio.py a.mp4 b.mp4 https://host/c.mp4"""

import asyncio
import sys
from contextlib import aclosing

from shortcast import AsyncScorer, Bundle, Scorer, ShortcastError
from shortcast.runtime.bundle import demo_bundle


async def follow(scorer: AsyncScorer, source: str) -> None:
    try:
        async with aclosing(scorer.stream(source)) as scores:
            async for score in scores:
                print(f"{score.clip} after {score.end_s:.1f} s: {score.value:,.0f} {score.target}", flush=True)
    except ShortcastError as error:
        print(error, file=sys.stderr)


async def main(sources: list[str]) -> None:
    with Scorer(Bundle.open(demo_bundle()), threads=1) as scorer:
        shared = AsyncScorer(scorer)
        await asyncio.gather(*(follow(shared, source) for source in sources))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
