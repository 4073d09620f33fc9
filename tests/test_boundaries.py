"""Who may import whom, read from the syntax tree of every module."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("runtime", "models", "training", "export", "benchmarks")

# errors is open to everyone; a folder may always import itself.
MAY_IMPORT = {
    "runtime": set(),
    "models": {"runtime"},
    "training": {"models", "runtime"},
    "export": {"models", "runtime"},
    "benchmarks": {"export", "models", "runtime", "training"},
}
ONE_MODULE_EACH = {
    "onnxruntime": {"runtime/engines/onnxruntime.py"},
    "ctranslate2": {"runtime/whisper.py"},
    "faster_whisper": {"runtime/transcript.py", "runtime/whisper.py"},
    "cuda": set(),
    "tensorrt": set(),
    "tensorrt_rtx": set(),
    "av": {"runtime/containers.py", "runtime/sources.py", "runtime/streams.py", "runtime/media.py", "runtime/pictures.py"},
}
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Absolute dotted names of everything a module imports, `shortcast.` for the package's own."""
    package = ["shortcast", *path.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join(package[: len(package) - node.level + 1] + ([node.module] if node.module else [])) if node.level else node.module
            )
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_stay_inside_the_allowed_folders(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    reached = {name.split(".")[1] for name in imports(path) if name.startswith("shortcast.")}
    assert reached <= MAY_IMPORT[folder] | {folder, "errors", "__version__"}


@pytest.mark.parametrize("path", sorted((ROOT / "runtime").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_runtime_imports_no_torch_and_each_library_in_one_place(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"torch", "torchvision", "onnx", "sklearn", "scipy", "safetensors"}
    name = str(path.relative_to(ROOT))
    for library, homes in ONE_MODULE_EACH.items():
        assert library not in roots or name in homes


def test_the_check_sees_a_forbidden_import(tmp_path: Path) -> None:
    module = ROOT / "runtime" / "media.py"
    assert "av" in {name.split(".")[0] for name in imports(module)}


@pytest.mark.parametrize("path", [*MODULES, *sorted(ROOT.glob("[a-z]*.py"))], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_package_imports_itself_relatively(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        absolute = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            absolute.append(node.module or "")
        assert not any(name.split(".")[0] == "shortcast" for name in absolute)
