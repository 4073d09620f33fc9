"""The measurement of many clips at once, on a folder of two."""

import shutil
from pathlib import Path

from shortcast.benchmarks.many_clips import measure
from shortcast.runtime.cpu import available_cpus


def test_every_sample_is_kept_and_every_clip_counted(short: Path, tmp_path: Path) -> None:
    shutil.copy(short, tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_text("no clip")
    result = measure(tmp_path, jobs=(2,), rounds=2, calls=1)
    assert result.clips == 2
    assert [run.jobs for run in result.jobs_runs] == [2, 2]
    assert all(run.wall_s > 0 and run.core_s > 0 and run.peak_rss_mib > 50 for run in result.jobs_runs)
    assert [(run.threads, run.batch) for run in result.batch_runs] == [
        (threads, batch) for threads in sorted({1, available_cpus()}) for batch in (1, 2, 4)
    ]
