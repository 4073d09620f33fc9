import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shortcast.errors import BundleError
from shortcast.runtime.bundle import Bundle, Manifest
from shortcast.runtime.settling import Settling, SettlingRow, SettlingRule


@pytest.fixture
def copy(demo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo, tmp_path / "copy.shortcast"))


def test_an_intact_bundle_opens(demo: Path) -> None:
    bundle = Bundle.open(demo)
    assert {file.path for file in bundle.manifest.files} >= {"contract.json", "onnx/visual.fp32.onnx", "onnx/fusion.fp32.onnx"}
    assert bundle.contract.sound.whisper_sha256
    assert bundle.graph("visual").is_file()
    assert Manifest.from_json(json.loads(bundle.manifest.dumps())) == bundle.manifest


@pytest.fixture
def with_engine(demo: Path, copy: Path) -> Path:
    """A bundle that carries an engine file, of which nothing is known but its hash."""
    from shortcast.export.manifest import write_manifest

    folder = copy / "engines" / "tensorrt_rtx-sm86"
    folder.mkdir(parents=True)
    (folder / "visual.plan").write_bytes(bytes(range(256)) * 40)
    (folder / "build.json").write_text("{}")
    write_manifest(Bundle.open(demo).manifest, copy)
    return copy


def files_of(bundle: Path) -> list[Path]:
    return [path.relative_to(bundle) for path in sorted(bundle.rglob("*")) if path.is_file()]


def altered_contents(content: bytes) -> Iterator[bytes]:
    """One bit flipped at the start, in the middle and at the end; one byte less; one more; nothing at all."""
    for position in {0, len(content) // 2, len(content) - 1}:
        yield content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
    yield content[:-1]
    yield content + b"\n"
    yield b""


def test_a_change_anywhere_in_any_file_is_refused(with_engine: Path) -> None:
    for name in files_of(with_engine):
        path = with_engine / name
        content = path.read_bytes()
        for changed in altered_contents(content):
            path.write_bytes(changed)
            with pytest.raises(BundleError, match=name.name) as caught:
                Bundle.open(with_engine)
            assert "\n" not in str(caught.value)
        path.write_bytes(content)
    Bundle.open(with_engine)


def test_a_missing_file_is_named(copy: Path) -> None:
    for name in files_of(copy):
        content = (copy / name).read_bytes()
        (copy / name).unlink()
        with pytest.raises(BundleError, match=name.name):
            Bundle.open(copy)
        (copy / name).write_bytes(content)


@pytest.mark.parametrize("name", ["onnx/other.onnx", "engines/some-gpu/visual.plan", "whisper/model.bin", ".hidden"])
def test_an_extra_file_is_named(copy: Path, name: str) -> None:
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_bytes(b"")
    with pytest.raises(BundleError, match=f"{re.escape(name)} is not in the manifest"):
        Bundle.open(copy)


def test_an_extra_link_is_named_even_one_to_a_folder_or_to_nothing(copy: Path) -> None:
    for target in (copy.parent, copy / "nothing"):
        (copy / "link").symlink_to(target)
        with pytest.raises(BundleError, match="link is not in the manifest"):
            Bundle.open(copy)
        (copy / "link").unlink()


def altered(copy: Path, change: dict[str, object]) -> None:
    plain = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(plain | change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "9.0"}, "schema is '9.0'"),
        ({"surprise": 1}, "surprise"),
        ({"name": "other"}, "was altered"),
        ({"quantile_levels": "all"}, "manifest.json"),
        ({"target": {}}, "target"),
        ({"intervals": {"coverage": 0.9}}, "intervals"),
        ({"settling": None}, "settling"),
        ({"settling": {"clips": 40}}, "settling"),
        ({"graphs": {"visual": {"fp32": {"file": "onnx/visual.fp32.onnx"}}}}, "manifest.json"),
        ({"graphs": []}, "manifest.json"),
        ({"variants": {"int8": {"visual": "int8", "fusion": "int8"}}}, "'int8' names graphs that are not there"),
        ({"variants": {"fp32": {"visual": "fp32"}}}, "'fp32' names graphs that are not there"),
        ({"whisper": {"model": "tiny.en"}}, "manifest.json"),
        ({"schema": "1.0"}, "schema is '1.0', this version reads '4.0'; export the bundle again"),
    ],
)
def test_an_altered_manifest_is_refused(copy: Path, change: dict[str, object], words: str) -> None:
    altered(copy, change)
    with pytest.raises(BundleError, match=words) as caught:
        Bundle.open(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["../outside.onnx", "/etc/passwd", "onnx/../../outside.onnx"])
def test_a_path_out_of_the_bundle_is_refused_even_with_a_right_id(copy: Path, path: str) -> None:
    (copy.parent / "outside.onnx").write_bytes(b"")
    plain = json.loads((copy / "manifest.json").read_text())
    plain["files"][0]["path"] = path
    manifest = Manifest.from_json(plain).with_id()
    (copy / "manifest.json").write_text(manifest.dumps())
    with pytest.raises(BundleError, match="not inside the bundle"):
        Bundle.open(copy)


def test_a_graph_outside_of_the_listed_files_is_refused_even_with_a_right_id(copy: Path) -> None:
    """The list of files is what is hashed, so nothing else may be opened."""
    plain = json.loads((copy / "manifest.json").read_text())
    plain["graphs"]["visual"]["fp32"]["file"] = "../outside.onnx"
    with pytest.raises(BundleError, match=r"the graph '../outside.onnx' is not one of the bundle's files"):
        Manifest.from_json(plain)


def test_a_link_out_of_the_bundle_is_refused(copy: Path) -> None:
    outside = copy.parent / "outside.json"
    (copy / "contract.json").rename(outside)
    (copy / "contract.json").symlink_to(outside)
    with pytest.raises(BundleError, match="not inside the bundle"):
        Bundle.open(copy)


def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        Bundle.open(tmp_path)


def test_a_graph_that_is_not_there(demo: Path) -> None:
    with pytest.raises(BundleError, match=r"no int4 visual graph, only fp16, fp32, int8.*--precision int4"):
        Bundle.open(demo).graph("visual", precision="int4")


def test_a_manifest_without_a_settling_table_has_no_such_key_and_its_old_id(demo: Path) -> None:
    manifest = Bundle.open(demo).manifest
    plain = replace(manifest, settling=None).with_id()
    keys = {key: value for key, value in manifest.to_json().items() if key != "settling"}
    unnamed = json.dumps({**keys, "id": ""}, indent=2, sort_keys=True, allow_nan=False) + "\n"
    assert plain.id == hashlib.sha256(unnamed.encode()).hexdigest()
    assert plain.dumps() == json.dumps({**keys, "id": plain.id}, indent=2, sort_keys=True) + "\n"
    assert Manifest.from_json(json.loads(plain.dumps())) == plain


def test_a_settling_table_is_part_of_the_id(demo: Path) -> None:
    row = SettlingRow(1.0, 40, 39, None, 0.3)
    tables = [Settling(clips, 0.95, (SettlingRule("class", 2, (row,)),), {"source": "made"}) for clips in (50, 60)]
    first, second = (replace(Bundle.open(demo).manifest, settling=table).with_id() for table in tables)
    assert first.id != second.id
    assert Manifest.from_json(json.loads(first.dumps())) == first
