"""Calibrating a bundle: clips scored whole become a table in its manifest, and nothing else of it changes."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from shortcast.errors import BundleError, DataError, MediaError
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.clip_list import list_clips
from shortcast.runtime.early import UntilSettled
from shortcast.runtime.score import Score
from shortcast.runtime.settle import put_into, score_paths, table_of
from shortcast.runtime.signature import SIGNATURE


@pytest.fixture
def copy(demo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo, tmp_path / "copy.shortcast"))


@dataclass
class Made:
    """A scorer of clips of six chunks that say the same from the second on; one named `bad` has no score."""

    bundle: Bundle
    made_score: Callable[..., Score]

    def stream(self, source: object, *, options: object = None) -> Iterator[Score]:
        if "bad" in str(source):
            raise MediaError(f"{source} is no media")
        for index in range(6):
            yield self.made_score(
                index=index, final=index == 5, class_probabilities=(0.1, 0.2, 0.3, 0.4) if index else (0.4, 0.3, 0.2, 0.1)
            )


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02}.mp4").write_text(f"clip {number}")
    return folder


def test_the_table_goes_into_the_manifest_and_every_other_byte_stays(
    copy: Path, clips: Path, made_score: Callable[..., Score], tmp_path: Path
) -> None:
    (clips / "bad.mp4").write_text("bad")
    bundle = Bundle.open(copy)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    seen: list[tuple[int, int]] = []
    listed = list_clips([str(clips)], once=True)
    scored = score_paths(Made(bundle, made_score), listed, jobs=2, progress=lambda done, total: seen.append((done, total)))
    assert (len(scored.paths), len(scored.failed)) == (40, 1)
    assert (seen[0], seen[-1]) == ((0, 41), (41, 41))
    settling = table_of(scored, source="made of text", precision="fp32", command="shortcast settle")
    assert put_into(bundle, settling) is False
    changed = {path.name for path in copy.rglob("*") if path.is_file() and path.read_bytes() != before.get(path)}
    assert changed == {"manifest.json"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    again = Bundle.open(copy)
    assert again.manifest.settling == settling
    assert again.manifest.id != bundle.manifest.id
    told = settling.provenance
    assert (told["source"], told["failed"], told["shortest_s"], told["longest_s"]) == ("made of text", 1, 12.0, 12.0)
    assert len(UntilSettled(Made(again, made_score)).stop.rule.rows) >= 1


def test_a_signature_goes_with_the_manifest_it_was_for(copy: Path, clips: Path, made_score: Callable[..., Score]) -> None:
    (copy / SIGNATURE).write_text("signed")
    bundle = Bundle.open(copy)
    scored = score_paths(Made(bundle, made_score), list_clips([str(clips)], once=True))
    assert put_into(bundle, table_of(scored, source="", precision="fp32", command="")) is True
    assert not (copy / SIGNATURE).exists()
    Bundle.open(copy)


def test_paths_are_what_the_scores_say_in_standardised_units(demo: Path, clips: Path, made_score: Callable[..., Score]) -> None:
    bundle = Bundle.open(demo)
    scored = score_paths(Made(bundle, made_score), list_clips([str(clips / "00.mp4")], once=True))
    (path,) = scored.paths
    np.testing.assert_allclose(path.z, np.arange(6) / 10)
    np.testing.assert_allclose(bundle.manifest.target.restore(path.interval_z), [[1.0, 3.0]] * 6)
    np.testing.assert_allclose(path.end_s, [2, 4, 6, 8, 10, 12])


def test_too_few_clips_make_no_table(demo: Path, clips: Path, made_score: Callable[..., Score]) -> None:
    scored = score_paths(Made(Bundle.open(demo), made_score), list_clips([str(clips)], once=True)[:29])
    with pytest.raises(DataError, match="at least 30 clips, and 29 could be scored"):
        table_of(scored, source="", precision="fp32", command="")


def test_what_is_no_file_is_refused_before_anything_is_scored(demo: Path, made_score: Callable[..., Score]) -> None:
    with pytest.raises(DataError, match=r"https://example.org/a.mp4 is not a file"):
        score_paths(Made(Bundle.open(demo), made_score), list_clips(["https://example.org/a.mp4"], once=True))


def test_a_manifest_that_cannot_be_written_stays_as_it_was(
    copy: Path, clips: Path, made_score: Callable[..., Score], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(copy)
    scored = score_paths(Made(bundle, made_score), list_clips([str(clips)], once=True))

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("shortcast.runtime.settle.os.replace", refuse)
    with pytest.raises(BundleError, match="cannot be written: disk full"):
        put_into(bundle, table_of(scored, source="", precision="fp32", command=""))
    assert json.loads((copy / "manifest.json").read_text())["id"] == bundle.manifest.id
    Bundle.open(copy)
