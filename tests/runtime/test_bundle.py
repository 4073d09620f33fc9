import json
import re
import shutil
from pathlib import Path

import pytest

from shortcast.errors import BundleError
from shortcast.runtime.bundle import Bundle, Manifest


@pytest.fixture
def copy(demo: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo, tmp_path / "copy.shortcast"))


def test_an_intact_bundle_opens(demo: Path) -> None:
    bundle = Bundle.open(demo)
    assert {file.path for file in bundle.manifest.files} >= {"contract.json", "onnx/visual.fp32.onnx", "onnx/fusion.fp32.onnx"}
    assert bundle.contract.sound.whisper_sha256
    assert bundle.graph("visual").is_file()
    assert Manifest.from_json(json.loads(bundle.manifest.dumps())) == bundle.manifest


def files_of(bundle: Path) -> list[Path]:
    return [path.relative_to(bundle) for path in sorted(bundle.rglob("*")) if path.is_file()]


def test_a_changed_byte_in_any_file_is_named(copy: Path) -> None:
    for name in files_of(copy):
        path = copy / name
        content = path.read_bytes()
        path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        with pytest.raises(BundleError, match=name.name):
            Bundle.open(copy)
        path.write_bytes(content)
    Bundle.open(copy)


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
        ({"graphs": {"visual": {"fp32": {"file": "onnx/visual.fp32.onnx"}}}}, "manifest.json"),
        ({"graphs": []}, "manifest.json"),
        ({"variants": {"fp16": {"visual": "fp16", "fusion": "fp16"}}}, "'fp16' names graphs that are not there"),
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
    with pytest.raises(BundleError, match=r"no int4 visual graph, only fp32.*--precision int4"):
        Bundle.open(demo).graph("visual", precision="int4")
