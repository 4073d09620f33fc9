"""The manifest of clips: what is read back, and which line an error names."""

from pathlib import Path

import pytest

from shortcast.errors import DataError
from shortcast.training.clips import ClipRow, read_manifest, write_manifest


def _write(folder: Path, text: str) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_survive_a_round_trip(tmp_path: Path) -> None:
    rows = [
        ClipRow("a", tmp_path / "clips" / "a.mp4", "train", "k1", {"views": 12, "note": "héllo", "factors": {"motion": None}}),
        ClipRow("b", Path("/elsewhere/b.mp4"), None, None, {"views": 0.5}),
    ]
    manifest = write_manifest(tmp_path / "manifest.jsonl", rows)
    assert read_manifest(manifest) == rows
    assert '"path": "clips/a.mp4"' in manifest.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [manifest]


def test_a_line_separator_inside_a_string_is_not_an_end_of_line(tmp_path: Path) -> None:
    path = _write(tmp_path, '{"id": "a", "path": "a.mp4", "note": "one\u2028two"}\n')
    assert read_manifest(path)[0].columns["note"] == "one\u2028two"


def test_blank_lines_are_passed_over_and_still_counted(tmp_path: Path) -> None:
    path = _write(tmp_path, '\n{"id": "a", "path": "a.mp4"}\n\n{"id": "b"}\n')
    with pytest.raises(DataError, match="line 4: 'path' is missing"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ("[1]", "line 2: expected a JSON object, got list"),
        ('{"path": "a.mp4"}', "line 2: 'id' is missing"),
        ('{"id": 7, "path": "a.mp4"}', "line 2: 'id' is 7; expected a string"),
        ('{"id": "a", "path": ""}', "line 2: 'path' is ''; expected a string"),
        ('{"id": "a", "path": "a.mp4", "split": "dev"}', "line 2: split is 'dev'; expected train, val, test"),
        ('{"id": "first", "path": "a.mp4"}', "line 2: id 'first' was already used"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = _write(tmp_path, '{"id": "first", "path": "first.mp4"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        read_manifest(path)


@pytest.mark.parametrize(("content", "message"), [(b"\n", "holds no clip"), (b"\xff\xfe", "cannot be read")])
def test_a_manifest_without_rows_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_manifest(path)


def test_a_missing_manifest_and_a_missing_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="cannot be written"):
        write_manifest(tmp_path / "none" / "manifest.jsonl", [])


def test_value_gives_a_finite_number() -> None:
    assert ClipRow("a", Path("a.mp4"), None, None, {"views": 12}).value("views") == 12.0


@pytest.mark.parametrize(
    ("found", "message"), [("12", "holds '12'"), (True, "holds True"), (None, "holds None"), (float("nan"), "holds nan")]
)
def test_value_refuses_what_is_not_a_finite_number(found: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ClipRow("a", Path("a.mp4"), None, None, {"views": found}).value("views")


def test_value_names_the_columns_there_are() -> None:
    with pytest.raises(DataError, match="no column 'views'; its columns are likes, shares"):
        ClipRow("a", Path("a.mp4"), None, None, {"shares": 1, "likes": 1}).value("views")
