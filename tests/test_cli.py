"""The command line as a user meets it: a process, its two streams and its exit code."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Trained

COMMANDS = [
    "score",
    "train",
    "evaluate",
    "data synth",
    "data import",
    "data audit",
    "data duplicates",
    "data outliers",
    "export",
    "verify",
    "inspect",
    "sign",
    "bench",
    "bench compare",
    "doctor",
]
SIGN_IT = "its maker signs it with `shortcast sign`"
WITH_EXAMPLES = [command for command in COMMANDS if command != "doctor"]


def shortcast(*arguments: object, stdin: bytes | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "shortcast", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, cwd=cwd, check=False, timeout=300)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def lines(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def sentences(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return [line for line in done.stderr.decode().splitlines() if "demo bundle" not in line]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help(command: str) -> None:
    done = shortcast(*command.split(), "--help")
    assert done.returncode == 0
    if command in WITH_EXAMPLES:
        assert b"Example" in done.stdout


def test_version() -> None:
    from shortcast import __version__

    assert shortcast("--version").stdout.decode().strip() == f"shortcast {__version__}"


@pytest.mark.parametrize(
    "arguments",
    [["score"], ["score", "x.mp4", "--format", "xml"], ["score", "x.mp4", "--threads", "0"], ["explode"], ["export", "x"], ["train", "x"]],
)
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    done = shortcast(*arguments)
    assert done.returncode == 2
    assert done.stdout == b""


def test_scoring_a_clip_prints_one_json_line(sample: Path) -> None:
    done = shortcast("score", sample)
    assert done.returncode == 0
    (score,) = lines(done)
    assert score["clip"] == str(sample)
    assert score["final"] is True
    assert b"this is the demo bundle" in done.stderr


def test_every_chunk_prints_a_line_for_each(sample: Path) -> None:
    done = shortcast("score", sample, "--every-chunk", "--format", "jsonl")
    scores = lines(done)
    assert [score["chunk"] for score in scores] == list(range(len(scores)))
    assert len(scores) > 4
    assert [score["final"] for score in scores].count(True) == 1
    assert scores[-1]["z"] == lines(shortcast("score", sample))[0]["z"]


def test_the_table_shows_each_chunk(sample: Path) -> None:
    done = shortcast("score", sample, "--every-chunk", "--format", "table")
    text = done.stdout.decode()
    assert str(sample) in text
    assert "90% interval" in text
    assert text.count(" VA ") == len(lines(shortcast("score", sample, "--every-chunk")))


def test_standard_input_gives_what_the_file_gives(sample: Path) -> None:
    piped = lines(shortcast("score", "-", stdin=sample.read_bytes()))
    assert piped[0]["clip"] == "standard input"
    assert piped[0]["z"] == lines(shortcast("score", sample))[0]["z"]


def test_a_bad_clip_does_not_keep_the_others_from_being_scored(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a clip")
    (tmp_path / "empty.mp4").touch()
    done = shortcast("score", tmp_path / "text.mp4", sample, tmp_path / "empty.mp4", tmp_path / "none.mp4", sample)
    assert done.returncode == 1
    assert [score["clip"] for score in lines(done)] == [str(sample)] * 2
    assert len(sentences(done)) == 3
    for sentence, words in zip(sentences(done), ["text.mp4 is not", "empty.mp4 is empty", "none.mp4 does not exist"], strict=True):
        assert words in sentence


def test_every_broken_clip_is_scored_from_what_decodes_or_gets_one_sentence(shared_data: Path) -> None:
    clips = sorted(shared_data.joinpath("clips", "broken").iterdir()) + [
        shared_data / "clips" / "derived" / name
        for name in ("nasa_truncated_half.mp4", "bbb_truncated.webm", "empty.mp4", "text_renamed.mp4", "random_bytes.mp4")
    ]
    done = shortcast("score", *clips)
    scored = {score["clip"] for score in lines(done)}
    refused = sentences(done)
    assert len(scored) + len(refused) == len(clips)
    for clip in clips:
        assert (str(clip) in scored) != any(clip.name in sentence for sentence in refused)
    assert done.returncode == 1


def test_a_bundle_that_is_none(sample: Path, tmp_path: Path) -> None:
    done = shortcast("score", sample, "--bundle", tmp_path)
    assert done.returncode == 1
    assert b"is not a bundle" in done.stderr


def test_cuda_is_used_or_refused(sample: Path) -> None:
    done = shortcast("score", sample, "--device", "cuda")
    assert done.returncode == 1
    assert b"CUDAExecutionProvider" in done.stderr


def test_missing_whisper_weights_are_one_sentence(sample: Path, tmp_path: Path) -> None:
    done = shortcast("score", sample, "--whisper", tmp_path)
    assert done.returncode == 1
    assert len(sentences(done)) == 1
    assert shortcast("score", sample, "--whisper", tmp_path, "--no-sound").returncode == 0


def test_a_transcript(shared_data: Path) -> None:
    (score,) = lines(shortcast("score", shared_data / "clips" / "derived" / "vertical_jfk.mp4", "--transcript"))
    segments = score["transcript"]
    assert isinstance(segments, list)
    assert "fellow Americans" in " ".join(segment["text"] for segment in segments)


def test_a_reader_that_goes_away_is_no_traceback(sample: Path) -> None:
    command = f"{sys.executable} -m shortcast score {sample} {sample} --every-chunk | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=120)
    assert b"Traceback" not in done.stderr
    assert done.stdout.count(b"\n") == 1


def test_verify_inspect_and_doctor_on_the_demo_bundle(demo: Path) -> None:
    verified = shortcast("verify", demo)
    assert verified.returncode == 0, verified.stderr
    assert "stream equals batch" in verified.stdout.decode()
    assert "what is decided" in verified.stdout.decode()
    inspected = shortcast("inspect", demo).stdout
    assert b"synthetic" in inspected
    assert b"against PyTorch float32" in inspected
    assert json.loads(shortcast("inspect", demo, "--json").stdout)["id"]
    doctor = shortcast("doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert b"onnxruntime on cpu" in doctor.stdout


def test_verify_of_a_bundle_that_computes_something_else_exits_with_3(trained: "Trained", tmp_path: Path) -> None:
    import numpy as np

    from shortcast.export.manifest import write_manifest
    from shortcast.runtime.bundle import Bundle
    from shortcast.runtime.golden import load_golden, save_golden

    copy = Path(shutil.copytree(trained.bundle, tmp_path / "copy.shortcast"))
    golden = load_golden(copy / "golden" / "golden.npz")
    golden.visual[...] += np.float32(0.1)
    save_golden(golden, copy / "golden" / "golden.npz")
    write_manifest(Bundle.open(trained.bundle).manifest, copy)
    done = shortcast("verify", copy)
    assert done.returncode == 3
    assert b"outside their tolerance" in done.stderr
    assert b"FAILED" in done.stdout


def test_verify_names_a_changed_byte(trained: "Trained", tmp_path: Path) -> None:
    copy = Path(shutil.copytree(trained.bundle, tmp_path / "copy.shortcast"))
    graph = copy / "onnx" / "fusion.fp32.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    done = shortcast("verify", copy)
    assert done.returncode == 1
    assert b"onnx/fusion.fp32.onnx was altered" in done.stderr


def test_a_signed_bundle_is_required_and_scored(sample: Path, demo: Path, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password))
    (tmp_path / "key.pub").write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    bundle = Path(shutil.copytree(demo, tmp_path / "copy.shortcast"))
    score = ["score", sample, "--no-sound", "-b", bundle, "--require-signed-by", tmp_path / "key.pub"]
    refused = shortcast(*score)
    assert refused.returncode == 1
    assert sentences(refused) == [f"shortcast: {bundle} is not signed, and a signature by {tmp_path / 'key.pub'} is required; " + SIGN_IT]
    assert shortcast("sign", bundle, "--key", tmp_path / "key.pem").returncode == 0
    assert lines(shortcast(*score))[0]["final"] is True
    assert shortcast("inspect", bundle, "--json", "--require-signed-by", tmp_path / "key.pub").returncode == 0


def test_train_export_and_score_by_command(trained: "Trained", sample: Path, tmp_path: Path) -> None:
    features = trained.checkpoint.with_name("model.run") / "features"
    options = ["--epochs-autoencoder", 1, "--chunks-per-epoch", 8, "--epochs", 2, "--target", "likes", "--features-dir", features]
    options += ["--transform", "rank-gauss", "--loss", "student-t:4", "--split", "author", "--threads", 1]
    done = shortcast("train", trained.manifest, "-o", tmp_path / "model", *options)
    assert done.returncode == 0, done.stderr.decode()
    assert b"the training mean" in done.stdout
    again = shortcast("train", trained.manifest, "-o", tmp_path / "model", *options)
    assert again.returncode == 1
    assert b"--force" in again.stderr
    done = shortcast(
        "evaluate", tmp_path / "model", trained.manifest, "-o", tmp_path / "report", "--resamples", 20, "--features-dir", features
    )
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "report" / "index.html").is_file()
    done = shortcast("export", tmp_path / "model", "-o", tmp_path / "model.shortcast")
    assert done.returncode == 0, done.stderr.decode()
    (score,) = lines(shortcast("score", sample, "-b", tmp_path / "model.shortcast"))
    assert score["target"] == "likes"


@pytest.mark.parametrize(("top", "code"), [("many", 2), ("1,200", 1)])
def test_percentages_that_are_none(tmp_path: Path, top: str, code: int) -> None:
    done = shortcast("evaluate", tmp_path / "model", tmp_path / "clips.jsonl", "--outliers", "--outliers-top", top)
    assert done.returncode == code
    assert b"percentages" in done.stderr


@pytest.mark.parametrize("column", ["shares", "id"])
def test_a_target_that_is_not_there(trained: "Trained", tmp_path: Path, column: str) -> None:
    done = shortcast("train", trained.manifest, "-o", tmp_path / "model", "--target", column)
    assert done.returncode == 1
    assert column.encode() in done.stderr
    assert not list(tmp_path.iterdir())


def test_ctrl_c_during_an_export_leaves_nothing(trained: "Trained", tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shortcast", "export", str(trained.checkpoint), "-o", str(tmp_path / "new.shortcast")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    assert b"exporting graphs" in process.stderr.readline()
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    # A shell shows 130 for both: CPython ends itself by the signal where that interrupted an exec().
    assert process.returncode in (130, -signal.SIGINT), errors
    assert b"Traceback" not in errors
    assert b"interrupted" in errors
    assert os.listdir(tmp_path) == []


def test_the_import_command_offers_every_format() -> None:
    from shortcast.cli_data import ImportFormat
    from shortcast.training.formats import FORMATS

    assert tuple(choice.value for choice in ImportFormat) == FORMATS


def test_import_then_audit_of_a_yt_dlp_folder(trained: "Trained", tmp_path: Path) -> None:
    clips = sorted(trained.manifest.parent.rglob("*.mp4"))[:6]
    for number, clip in enumerate(clips):
        shutil.copy(clip, tmp_path / f"post{number}.mp4")
        info = {
            "id": f"post{number}",
            "view_count": 10 ** (number + 1),
            "like_count": 5,
            "uploader_id": f"{number // 2}",
            "timestamp": 1.7e9,
        }
        (tmp_path / f"post{number}.info.json").write_text(json.dumps(info | {"extractor": "TikTok", "epoch": 1.71e9}))
    manifest = tmp_path / "manifest.jsonl"
    done = shortcast("data", "import", tmp_path, "-o", manifest, "--report", tmp_path / "report.json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [row["views"] for row in rows] == [10 ** (number + 1) for number in range(6)]
    assert json.loads((tmp_path / "report.json").read_text())
    assert shortcast("data", "import", tmp_path, "-o", manifest).returncode == 1
    audited = shortcast("data", "audit", manifest)
    assert audited.returncode == 0, audited.stderr
    assert b"findings" in audited.stdout
    assert shortcast("data", "audit", manifest, "--json", tmp_path / "none" / "audit.json").returncode == 1
    assert shortcast("data", "audit", manifest, "--column", "author").returncode == 2


def test_the_audit_finds_the_label_fault_of_real_data(shared_data: Path) -> None:
    labels = shared_data / "labels" / "tiktok_german_news_2023.csv"
    done = shortcast("data", "audit", labels, "--target", "likes", "--column", "author=outlet")
    assert done.returncode == 0, done.stderr
    assert b"1,910" in done.stdout


def test_duplicates_are_listed_and_the_audit_counts_them(sample: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copy(sample, tmp_path / f"{name}.mp4")
    manifest = tmp_path / "manifest.jsonl"
    rows = [{"id": name, "path": f"{name}.mp4", "views": number} for number, name in enumerate(("one", "two", "three", "four"))]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = shortcast("data", "duplicates", manifest, "--json", tmp_path / "found.json", "--jobs", 1)
    assert done.returncode == 0, done.stderr
    assert b"left out three" in done.stderr
    assert json.loads((tmp_path / "found.json").read_text())["clusters"] == [{"clips": ["one", "two"], "similarity": 1.0}]
    assert "100%" in done.stdout.decode()
    done = shortcast("data", "audit", manifest, "--features-dir", tmp_path / "manifest.features")
    assert done.returncode == 0, done.stderr
    assert "1 rows show the pictures of an earlier row" in " ".join(done.stdout.decode().split())


def test_the_outlier_study_of_real_data(shared_data: Path) -> None:
    done = shortcast("data", "outliers", shared_data / "labels" / "tiktok_german_news_2023.csv", "--target", "likes")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["column"] == "likes"
    assert shortcast("data", "outliers", shared_data / "labels" / "none.csv").returncode == 1
