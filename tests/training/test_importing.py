"""From files of counts and a folder of videos to a manifest, and what is said of everything that didn't fit."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from shortcast.errors import DataError
from shortcast.training.clips import ClipRow, read_manifest
from shortcast.training.import_report import ImportReport
from shortcast.training.importing import ImportOptions, import_clips
from shortcast.training.pseudonyms import load_salt, pseudonym

INFO = {
    "_type": "video",
    "extractor_key": "TikTok",
    "view_count": 5000,
    "like_count": 400,
    "comment_count": 20,
    "repost_count": 30,
    "timestamp": 1706702400,
    "epoch": 1707307200,
    "duration": 14.2,
    "width": 576,
    "height": 1024,
    "uploader": "Some Body",
    "uploader_id": "678582",
    "title": "a title",
    "track": "song",
    "artists": ["band"],
}
IDS = ("7000000000000000001", "7000000000000000002", "7000000000000000003")


def video(path: Path, content: str | None = None) -> Path:
    """A file that is named like a video: nothing decodes on import."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if content is not None else f"bytes of {path.name}")
    return path


def info(stem: Path, **changed: Any) -> None:
    """Media and its `.info.json`, as yt-dlp leaves them."""
    video(stem.with_name(stem.name + ".mp4"))
    stem.with_name(stem.name + ".info.json").write_text(json.dumps({**INFO, **changed}))


def table(path: Path, header: str, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def run(source: Path, output: Path, **options: Any) -> tuple[ImportReport, list[ClipRow]]:
    report = import_clips(source, output, options=ImportOptions(**options))
    return report, read_manifest(output)


def test_a_yt_dlp_folder_becomes_a_manifest_with_every_canonical_column(tmp_path: Path) -> None:
    info(tmp_path / "clips" / f"a title [{IDS[0]}]", id=IDS[0])
    report, (row,) = run(tmp_path / "clips", tmp_path / "manifest.jsonl")
    media = tmp_path / "clips" / f"a title [{IDS[0]}].mp4"
    salt = load_salt(tmp_path / "salt")
    assert (row.id, row.path, row.split, row.author) == (IDS[0], media, None, pseudonym("678582", salt, "author"))
    assert row.columns == {
        "sha256": hashlib.sha256(media.read_bytes()).hexdigest(),
        "views": 5000,
        "likes": 400,
        "comments": 20,
        "shares": 30,
        "saves": None,
        "created_at": "2024-01-31T12:00:00Z",
        "crawled_at": "2024-02-07T12:00:00Z",
        "duration_s": 14.2,
        "width": 576,
        "height": 1024,
        "music": pseudonym("song + band", salt, "music"),
        "is_ad": None,
        "source": "yt-dlp",
        "platform": "tiktok",
    }
    assert (report.rows, report.left_out, report.noted) == (1, (), ()), "saves, that no post has, aren't hidden"
    assert json.loads((tmp_path / "manifest.jsonl").read_text())["path"] == f"clips/{media.name}"


def test_nothing_that_names_somebody_is_in_the_manifest_unless_asked_for(tmp_path: Path) -> None:
    info(tmp_path / "a", id=IDS[0], description="call me", webpage_url="https://example.org/@somebody")
    run(tmp_path, tmp_path / "m.jsonl")
    text = (tmp_path / "m.jsonl").read_text()
    assert not [word for word in ("Some Body", "678582", "a title", "call me", "example.org", "band") if word in text]
    _, (row,) = run(tmp_path, tmp_path / "m.jsonl", keep_text=True, force=True)
    assert row.columns["text"]["uploader"] == "Some Body"
    assert row.columns["text"]["webpage_url"] == "https://example.org/@somebody"


def test_everything_that_is_no_row_is_listed(tmp_path: Path) -> None:
    info(tmp_path / "good", id="g")
    info(tmp_path / "hidden", id="h", like_count=None)
    info(tmp_path / "again", id="g", epoch=1707307201)
    info(tmp_path / "list", id="l", _type="playlist")
    info(tmp_path / "twin", id="t")
    video(tmp_path / "twin.mp4", "bytes of hidden.mp4")
    info(tmp_path / "gone", id="x")
    (tmp_path / "gone.mp4").rename(tmp_path / "gone.jpg")
    info(tmp_path / "empty", id="e")
    video(tmp_path / "empty.mp4", "")
    video(tmp_path / "stray.mp4")
    (tmp_path / "cut.info.json").write_text('{"id": "k", ')
    report, rows = run(tmp_path, tmp_path / "m.jsonl")
    assert [(row.id, row.path.name) for row in rows] == [("g", "again.mp4"), ("h", "hidden.mp4")]
    assert {(entry.kind, Path(entry.where).name) for entry in report.left_out} == {
        ("damaged", "cut.info.json"),
        ("repeated id", "good.info.json"),
        ("playlist", "list.info.json"),
        ("repeated media", "twin.info.json"),
        ("no media", "gone.info.json"),
        ("empty media", "empty.info.json"),
        ("media without a post", "stray.mp4"),
    }
    details = {entry.kind: entry.detail for entry in report.left_out}
    assert details["repeated media"] == "twin.mp4 is byte for byte hidden.mp4"
    assert details["no media"] == "id x: no video, only gone.jpg: an image post?"
    assert [(entry.kind, entry.detail) for entry in report.noted] == [("hidden count", "id h: likes")]
    assert report.counts["damaged"] == 1
    assert json.loads(json.dumps(report.to_json()))["left_out"][0]["kind"] == "damaged"


def test_the_summary_names_a_few_of_each_kind_and_counts_the_rest(tmp_path: Path) -> None:
    info(tmp_path / "a", id="a")
    for index in range(8):
        video(tmp_path / f"stray{index}.mp4")
    lines = run(tmp_path, tmp_path / "m.jsonl")[0].summary().split("\n")
    assert lines[0] == f"took {tmp_path} for yt-dlp: 1 post"
    assert lines[1] == f"1 row in {tmp_path / 'm.jsonl'}"
    assert lines[2:4] == ["left out:", "  media without a post: 8"]
    assert lines[-1] == "    and 3 more"
    assert len(lines) == 10


def test_a_required_count_that_is_hidden_leaves_the_row_out(tmp_path: Path) -> None:
    info(tmp_path / "a", id="a", view_count=None)
    info(tmp_path / "b", id="b")
    _, rows = run(tmp_path, tmp_path / "all.jsonl")
    assert [row.columns["views"] for row in rows] == [None, 5000]
    report, rows = run(tmp_path, tmp_path / "m.jsonl", require=("views",))
    assert [row.id for row in rows] == ["b"]
    assert [(entry.kind, entry.detail) for entry in report.left_out] == [("required count is hidden", "id a: views")]


@pytest.mark.parametrize(
    "name",
    [
        f"{IDS[0]}.mp4",
        f"some title [{IDS[0]}].webm",
        f"clip_{IDS[0]}.MP4",
        f"@some_body_video_{IDS[0]}.mp4",
        f"{IDS[0]}_720p.mov",
        f"sub/x-{IDS[0]}.mkv",
    ],
)
def test_media_is_found_by_the_id_in_its_name(name: str, tmp_path: Path) -> None:
    video(tmp_path / "media" / name)
    table(tmp_path / "posts.csv", "id,views", f"{IDS[0]},5")
    _, (row,) = run(tmp_path / "posts.csv", tmp_path / "m.jsonl", media=tmp_path / "media")
    assert row.path == tmp_path / "media" / name


@pytest.mark.parametrize("path", ["media/a.mp4", "a.mp4", "/elsewhere/of/old/a.mp4", "D:\\clips\\a.mp4", "ABSOLUTE"])
def test_media_is_found_by_the_path_that_a_table_names(path: str, tmp_path: Path) -> None:
    media = video(tmp_path / "media" / "a.mp4")
    table(tmp_path / "posts.csv", "path,views", f"{media if path == 'ABSOLUTE' else path},5")
    _, (row,) = run(tmp_path / "posts.csv", tmp_path / "m.jsonl")
    assert (row.id, row.path) == ("a", media), "without an id the file's name is one"


@pytest.mark.parametrize(
    ("header", "line", "files", "why"),
    [
        ("id,views", f"{IDS[0]},5", [f"a_{IDS[0]}.mp4", f"b_{IDS[0]}.mp4"], "2 files fit: a_"),
        ("id,views", "1,5", ["holiday_1.mp4"], "no file is named after it"),
        ("id,views", f"{IDS[0]},5", [f"{IDS[0]}1.mp4"], "no file is named after it"),
        ("id,path,views", "1,gone.mp4,5", ["a.mp4"], "gone.mp4 is not there"),
        ("id,path,views", "1,note.txt,5", ["note.txt"], "note.txt has no video's suffix"),
    ],
)
def test_media_that_cannot_be_told_is_not_guessed(header: str, line: str, files: list[str], why: str, tmp_path: Path) -> None:
    for name in files:
        video(tmp_path / name)
    video(tmp_path / "good.mp4")
    empty = "," * (header.count(",") - 1)
    table(tmp_path / "posts.csv", header, line, f"good{empty},5")
    report, rows = run(tmp_path / "posts.csv", tmp_path / "m.jsonl")
    assert [row.id for row in rows] == ["good"]
    assert why in next(entry.detail for entry in report.left_out if entry.kind == "no media")


def test_keys_agree_when_imported_again_and_differ_between_projects(tmp_path: Path) -> None:
    info(tmp_path / "clips" / "a", id="a")
    info(tmp_path / "clips" / "b", id="b", uploader_id="other")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    _, (first, other) = run(tmp_path / "clips", tmp_path / "one" / "m.jsonl")
    _, (again, _) = run(tmp_path / "clips", tmp_path / "one" / "m.jsonl", force=True)
    _, (elsewhere, _) = run(tmp_path / "clips", tmp_path / "two" / "m.jsonl")
    _, (shared, _) = run(tmp_path / "clips", tmp_path / "two" / "m.jsonl", force=True, salt_file=tmp_path / "one" / "salt")
    assert first.author == again.author == shared.author
    assert len({first.author, other.author, elsewhere.author}) == 3
    assert first.columns["music"] != elsewhere.columns["music"]


def test_the_salt_is_its_owners_alone_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    info(tmp_path / "a", id="a")
    run(tmp_path, tmp_path / "m.jsonl")
    assert stat.S_IMODE((tmp_path / "salt").stat().st_mode) == 0o600
    (tmp_path / "salt").write_text("pepper")
    with pytest.raises(DataError, match="holds no salt; expected 64 hexadecimal digits"):
        run(tmp_path, tmp_path / "m.jsonl", force=True)


def test_handles_with_and_without_the_at_sign_are_one_author_and_kinds_are_kept_apart() -> None:
    salt = bytes(32)
    assert pseudonym("@somebody", salt, "author") == pseudonym("somebody ", salt, "author")
    assert pseudonym("12", salt, "author") != pseudonym("12", salt, "music")


def test_own_columns_and_splits_come_along_and_dropped_columns_are_said(tmp_path: Path) -> None:
    for name in "abc":
        video(tmp_path / f"{name}.mp4")
    table(tmp_path / "p.csv", "path,ecr,split,caption,views", "a.mp4,0.5,train,hi,12.3K", "b.mp4,,val,,1.234", "c.mp4,0.1,bogus,,")
    report, rows = run(tmp_path / "p.csv", tmp_path / "m.jsonl")
    assert [(row.split, row.columns["ecr"], row.columns["views"]) for row in rows] == [
        ("train", 0.5, 12300),
        ("val", None, 1234),
        (None, 0.1, None),
    ]
    assert [(entry.kind, entry.detail) for entry in report.noted] == [
        ("column dropped", "caption"),
        ("rounded count", "id a: views read as 12,300"),
        ("ambiguous count", "id b: views read as 1,234"),
        ("hidden count", "id c: views"),
        ("unreadable value", "id c: split 'bogus'"),
    ]


def test_a_manifest_is_not_replaced_unless_asked_nor_taken_for_a_source(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4")
    table(tmp_path / "p.csv", "id,views", "a,5")
    run(tmp_path, tmp_path / "m.jsonl")
    with pytest.raises(DataError, match="exists; give --force"):
        run(tmp_path, tmp_path / "m.jsonl")
    report, _ = run(tmp_path, tmp_path / "m.jsonl", force=True)
    assert [Path(source.path).name for source in report.sources] == ["p.csv"]
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(DataError, match="is a manifest that was imported already"):
        run(tmp_path / "m.jsonl", tmp_path / "m2.jsonl")


@pytest.mark.parametrize(
    ("options", "output", "says"),
    [
        ({}, "m.json", "ends in .jsonl or .parquet"),
        ({}, "no/m.jsonl", "does not exist; make it first"),
        ({"media": Path("/nowhere/at/all")}, "m.jsonl", "media folder .* does not exist"),
        ({"require": ("claps",)}, "m.jsonl", "cannot require claps; the counts are views, likes"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_read(options: dict[str, Any], output: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        run(tmp_path, tmp_path / output, **options)


def test_no_row_at_all_is_an_error_that_says_where_videos_were_looked_for(tmp_path: Path) -> None:
    table(tmp_path / "p.csv", "id,views", "a,5")
    with pytest.raises(DataError, match=r"no post became a row \(1 x no media; first .*line 2: id a: no file .* give --media"):
        run(tmp_path / "p.csv", tmp_path / "m.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"], "and nothing is left behind"


def test_progress_counts_the_files_that_are_hashed(tmp_path: Path) -> None:
    for name in "ab":
        info(tmp_path / name, id=name)
    seen: list[tuple[int, int]] = []
    import_clips(tmp_path, tmp_path / "m.jsonl", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_parquet_holds_what_the_manifest_holds(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    info(tmp_path / "a", id="a")
    import_clips(tmp_path, tmp_path / "m.parquet")
    _, (row,) = run(tmp_path, tmp_path / "m.jsonl")
    assert parquet.read_table(tmp_path / "m.parquet").to_pylist() == [
        {"id": "a", "path": str(row.path), "split": None, "author": row.author, **row.columns}
    ]


def test_parquet_tables_are_read_like_csv(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    video(tmp_path / "a.mp4")
    parquet.write_table(pyarrow.Table.from_pylist([{"id": "a", "views": 5, "ecr": 0.5}]), tmp_path / "p.parquet")
    report, (row,) = run(tmp_path / "p.parquet", tmp_path / "m.jsonl")
    assert (report.sources[0].format, row.columns["views"], row.columns["ecr"]) == ("csv", 5, 0.5)


def test_a_manifest_with_real_clips_can_be_read_back(shared_data: Path, tmp_path: Path) -> None:
    clips = sorted((shared_data / "clips" / "real").glob("*.mp4"))[:4]
    table(tmp_path / "p.csv", "path,views,date", *(f"{clip},{index},2024-01-0{index + 1}" for index, clip in enumerate(clips)))
    _, rows = run(tmp_path / "p.csv", tmp_path / "m.jsonl")
    assert [row.path for row in rows] == clips
    assert all(hashlib.sha256(row.path.read_bytes()).hexdigest() == row.columns["sha256"] for row in rows)
