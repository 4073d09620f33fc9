"""Files of scores: what is written comes back, a kill loses nothing, and who goes on doubles nothing."""

import csv
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from shortcast.errors import DataError
from shortcast.runtime.clip_list import Clip, list_clips
from shortcast.runtime.score import Score
from shortcast.runtime.score_files import FileFormat, RowsKey, ScoreFile, format_of, new_score_file, resume_score_file, rows_path
from shortcast.runtime.score_rows import ORIGIN_KEYS

KEY = RowsKey("bundle, fp32", 4)
FORMATS = list(FileFormat)
LINES = [FileFormat.jsonl, FileFormat.csv]


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """Files whose names are a trial for every format."""
    names = ["plain.mp4", 'quo"te,comma.mp4', "two\nlines\r.mp4", "ünï.mp4", os.fsdecode(b"raw\xff.mp4")]
    for name in names:
        (tmp_path / name).write_text("clip")
    return list_clips([str(tmp_path / name) for name in names], once=True)


@pytest.fixture
def add(made_score: Callable[..., Score]) -> Callable[..., None]:
    def add(file: ScoreFile, clips: Sequence[Clip], *, chunks: int = 2, error: str | None = None) -> None:
        for clip in clips:
            scores = [made_score(clip=clip.source, index=index, final=index == chunks - 1) for index in range(chunks)]
            file.add(clip, [] if error else scores, error)

    return add


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed").read_table(path).to_pylist()
        return rows
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text().splitlines()]


def clips_in(path: Path) -> list[str]:
    return [row["clip"].encode("utf-8", "backslashreplace").decode() for row in read(path) if row["error"] or str(row["final"]) == "True"]


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_comes_back(form: FileFormat, tmp_path: Path, clips: list[Clip], add: Callable[..., None]) -> None:
    path = tmp_path / f"out.{form.value}"
    with new_score_file(path, form, KEY) as file:
        add(file, clips)
    assert clips_in(path) == [clip.key for clip in clips]
    rows = read(path)
    assert len(rows) == 2 * len(clips)
    assert [float(row["z"]) for row in rows[:2]] == [0.0, 0.1]
    assert not rows_path(path, form).exists() or form is not FileFormat.parquet
    resumed = resume_score_file(path, form, KEY, clips)
    assert [resumed.done[clip.key].file for clip in clips] == [clip.file for clip in clips]
    resumed.close()
    assert read(path) == rows


def test_a_line_is_the_score_and_where_it_came_from(tmp_path: Path, clips: list[Clip], made_score: Callable[..., Score]) -> None:
    path, score = tmp_path / "out.jsonl", made_score(clip=clips[0].source, final=True)
    with new_score_file(path, FileFormat.jsonl, KEY) as file:
        file.add(clips[0], [score])
        file.add(clips[1], [], "no media")
    first, second = read(path)
    assert {key: value for key, value in first.items() if key not in ORIGIN_KEYS} == json.loads(json.dumps(score.to_json()))
    facts = clips[0].file
    assert facts is not None
    assert [first[key] for key in ORIGIN_KEYS] == [None, facts.size_bytes, facts.modified_s, "bundle, fp32"]
    assert set(second) == {"clip", *ORIGIN_KEYS}
    assert second["error"] == "no media"


@pytest.mark.parametrize("classes", [4, 3])
def test_parquet_has_every_key_of_a_line(tmp_path: Path, clips: list[Clip], made_score: Callable[..., Score], classes: int) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    written = []
    for name in ("out.jsonl", "out.parquet"):
        form = format_of(tmp_path / name)
        assert form
        with new_score_file(tmp_path / name, form, RowsKey("bundle", classes)) as file:
            file.add(clips[0], [made_score(clip=clips[0].source, final=True, class_probabilities=(1 / classes,) * classes)])
        written += read(tmp_path / name)
    assert written[0] == written[1]


def test_csv_leaves_no_column_of_a_score_empty(tmp_path: Path, clips: list[Clip], made_score: Callable[..., Score]) -> None:
    with new_score_file(tmp_path / "out.csv", FileFormat.csv, KEY) as file:
        file.add(clips[0], [made_score(final=True, settled=True, declared_s=9.0)])
    (row,) = read(tmp_path / "out.csv")
    assert [name for name, value in row.items() if value == ""] == ["error"]


def test_csv_has_a_column_for_each_figure(tmp_path: Path, clips: list[Clip], made_score: Callable[..., Score]) -> None:
    path = tmp_path / "out.csv"
    with new_score_file(path, FileFormat.csv, RowsKey("bundle", 3)) as file:
        file.add(clips[0], [made_score(clip="a", final=True, class_probabilities=(0.2, 0.5, 0.3))])
    (row,) = read(path)
    assert [row[name] for name in ("class", "class_2_probability", "interval_low", "interval_high")] == ["2", "0.5", "1.0", "3.0"]
    assert (row["notes"], row["transcript"], row["pictures"]) == ("one; two", "hello there", "True")
    assert json.loads(row["chunk_weights"]) == [0.25, 0.75]


@pytest.mark.parametrize("form", FORMATS)
def test_wherever_a_file_is_cut_off_every_whole_clip_is_kept_and_every_other_is_due(
    form: FileFormat, tmp_path: Path, clips: list[Clip], add: Callable[..., None]
) -> None:
    path = tmp_path / f"out.{form.value}"
    file = new_score_file(path, form, KEY)
    ends = []
    for clip in clips[:3]:
        add(file, [clip])
        ends.append(rows_path(path, form).stat().st_size)
    file.close(finished=False)
    content = rows_path(path, form).read_bytes()
    for cut in range(0, len(content) + 1, 7):
        rows_path(path, form).write_bytes(content[:cut])
        with resume_score_file(path, form, KEY, clips) as file:
            assert len(file.done) == sum(end <= cut for end in ends)
            add(file, [clip for clip in clips[:3] if clip.key not in file.done])
        assert clips_in(path) == [clip.key for clip in clips[:3]]
        path.unlink()


@pytest.mark.parametrize("form", FORMATS)
def test_a_clip_that_changed_or_failed_is_scored_again_and_its_old_rows_go(
    form: FileFormat, tmp_path: Path, clips: list[Clip], add: Callable[..., None]
) -> None:
    path = tmp_path / f"out.{form.value}"
    with new_score_file(path, form, KEY) as file:
        add(file, clips[:2])
        add(file, [clips[2]], error="no media")
        add(file, clips[3:])
    Path(clips[1].source).write_text("another clip")
    Path(clips[3].source).unlink()
    now = list_clips([clip.source for clip in clips], once=True)
    with resume_score_file(path, form, KEY, now) as file:
        assert [clip.key in file.done for clip in now] == [True, False, True, True, True]
        assert [file.done[clip.key].failed for clip in now if clip.key in file.done] == [False, True, False, False]
        add(file, [now[1]])
    assert clips_in(path) == [clips[number].key for number in (0, 2, 3, 4, 1)]
    with resume_score_file(path, form, KEY, now, retry_failed=True) as file:
        assert [clip.key in file.done for clip in now] == [True, True, False, True, True]
    assert clips_in(path) == [clips[number].key for number in (0, 3, 4, 1)]
    assert not list(tmp_path.glob("*.writing-*"))


def test_clips_that_are_not_asked_for_now_stay(tmp_path: Path, clips: list[Clip], add: Callable[..., None]) -> None:
    path = tmp_path / "out.csv"
    with new_score_file(path, FileFormat.csv, KEY) as file:
        add(file, clips[:2], error="no media")
    with resume_score_file(path, FileFormat.csv, KEY, clips[2:], retry_failed=True) as file:
        assert set(file.done) == {clip.key for clip in clips[:2]}


@pytest.mark.parametrize("form", FORMATS)
def test_rows_of_two_models_do_not_mix(form: FileFormat, tmp_path: Path, clips: list[Clip], add: Callable[..., None]) -> None:
    path = tmp_path / f"out.{form.value}"
    with new_score_file(path, form, KEY) as file:
        add(file, clips)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    with pytest.raises(DataError, match="'bundle, fp32', and this run has 'other'"):
        resume_score_file(path, form, RowsKey("other", 4), clips)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("content", [b"my notes\nand more\nof them\n", b'{"views": 7}\n{"views": 8}\n', b"clip,views\na.mp4,7\n"])
def test_a_file_that_holds_something_else_is_refused_and_stays(form: FileFormat, content: bytes, tmp_path: Path, clips: list[Clip]) -> None:
    path = tmp_path / f"out.{form.value}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"out\."):
        resume_score_file(path, form, KEY, clips)
    assert path.read_bytes() == content
    assert not list(tmp_path.glob("*.jsonl.*"))
    assert not list(tmp_path.glob("*.partial.*"))


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_there_is_replaced_on_request_only(form: FileFormat, tmp_path: Path, clips: list[Clip], add: Callable[..., None]) -> None:
    path = tmp_path / f"out.{form.value}"
    with new_score_file(path, form, KEY) as file:
        add(file, clips)
    with pytest.raises(DataError, match="--force"):
        new_score_file(path, form, KEY)
    with new_score_file(path, form, KEY, force=True) as file:
        add(file, clips[:1])
    assert clips_in(path) == [clips[0].key]


def test_parquet_rows_of_a_run_that_was_killed_are_not_overwritten_unasked(
    tmp_path: Path, clips: list[Clip], add: Callable[..., None]
) -> None:
    path = tmp_path / "out.parquet"
    file = new_score_file(path, FileFormat.parquet, KEY)
    add(file, clips)
    file.close(finished=False)
    assert not path.exists()
    with pytest.raises(DataError, match=r"out\.parquet\.partial\.jsonl exists; use --resume .*out\.parquet "):
        new_score_file(path, FileFormat.parquet, KEY)


@pytest.mark.parametrize("form", LINES)
def test_two_processes_do_not_write_one_file(form: FileFormat, tmp_path: Path, clips: list[Clip]) -> None:
    pytest.importorskip("fcntl", reason="locks are POSIX's")
    path = tmp_path / f"out.{form.value}"
    with new_score_file(path, form, KEY), pytest.raises(DataError, match="another process"):
        resume_score_file(path, form, KEY, clips)


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        new_score_file(tmp_path / "none" / "out.csv", FileFormat.csv, KEY)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_disk_that_is_full_is_one_sentence(clips: list[Clip], add: Callable[..., None]) -> None:
    with (
        pytest.raises(DataError, match="/dev/full cannot be written: No space left"),
        new_score_file(Path("/dev/full"), FileFormat.jsonl, KEY) as file,
    ):
        add(file, clips)


@pytest.mark.parametrize(("name", "form"), [("a.JSONL", FileFormat.jsonl), ("a.csv", FileFormat.csv), ("a.txt", None), ("csv", None)])
def test_formats_by_suffix(name: str, form: FileFormat | None) -> None:
    assert format_of(Path(name)) is form
