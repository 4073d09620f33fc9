"""Which clips are asked for: folders, lists, and a clip named twice."""

import os
from pathlib import Path

import pytest

from shortcast.errors import DataError
from shortcast.runtime.clip_list import clip_key, file_facts, list_clips, parse_list


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_a_folder_is_its_videos_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "b.mp4", "a.WEBM", "notes.txt", "b/1.mov", "b/a/2.mkv", ".hidden.mp4", ".git/3.mp4", "a.mp4.part", "a.info.json")
    clips = list_clips([str(tmp_path), "other.xyz"], once=True)
    assert [os.path.relpath(clip.source, tmp_path) for clip in clips[:-1]] == ["a.WEBM", "b.mp4", "b/1.mov", "b/a/2.mkv"]
    assert clips[-1].source == "other.xyz"


def test_a_folder_without_videos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no video"):
        list_clips([str(tmp_path)], once=True)


def test_a_clip_named_twice_is_there_once_or_as_often_as_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a.mp4", "b.mp4")
    sources = ["b.mp4", ".", "./b.mp4", str(tmp_path / "a.mp4"), "http://x/a", "http://x/a"]
    assert [clip.source for clip in list_clips(sources, once=True)] == ["b.mp4", "a.mp4", "http://x/a"]
    assert len(list_clips(sources, once=False)) == 7


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        (b"a.mp4\n\n  \r\nb c.mp4\r\n", ["a.mp4", "b c.mp4"]),
        (b"\xef\xbb\xbfa.mp4", ["a.mp4"]),
        (b"a\nb.mp4\0c.mp4\0", ["a\nb.mp4", "c.mp4"]),
        (b"\xff.mp4\n", [os.fsdecode(b"\xff.mp4")]),
        (b"", []),
    ],
)
def test_lists(raw: bytes, names: list[str]) -> None:
    assert parse_list(raw) == names


@pytest.mark.parametrize(
    ("source", "key"), [("./a//b.mp4", "a/b.mp4"), ("http://x//a", "http://x//a"), (os.fsdecode(b"\xff.mp4"), "\\udcff.mp4")]
)
def test_keys(source: str, key: str) -> None:
    assert clip_key(source) == key


def test_what_tells_a_file_from_its_later_versions(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("one")
    facts = file_facts(str(path))
    assert facts is not None
    assert facts == file_facts(str(path))
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    assert file_facts(str(path)) != facts
    assert [file_facts(name) for name in (str(tmp_path), str(tmp_path / "none"), "-", "a\0b", "http://x/a")] == [None] * 5
