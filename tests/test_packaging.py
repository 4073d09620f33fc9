"""The list of packages and data in pyproject.toml is the tree's."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILT = {"build", "dist"}
"""What making a wheel leaves behind."""
PACKAGES = sorted(
    path.parent
    for path in ROOT.glob("*/**/__init__.py")
    if path.relative_to(ROOT).parts[0] not in BUILT and not path.relative_to(ROOT).parts[0].startswith(".")
)

tomllib = pytest.importorskip("tomllib", reason="tomllib needs Python 3.11")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_folder_is_listed() -> None:
    folders = {".".join(["shortcast", *path.relative_to(ROOT).parts]) for path in PACKAGES}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders | {"shortcast"}


def test_every_folder_with_modules_is_a_package() -> None:
    not_packages = {"tests", "samples", "docs", "examples", *BUILT}
    with_modules = {path.parent for path in ROOT.glob("*/**/*.py") if path.relative_to(ROOT).parts[0] not in not_packages}
    with_modules = {path for path in with_modules if not path.relative_to(ROOT).parts[0].startswith(".")}
    assert with_modules == set(PACKAGES)


def test_no_root_module_shadows_the_standard_library() -> None:
    assert not {path.stem for path in ROOT.glob("*.py")} & set(sys.stdlib_module_names)


def test_the_tests_folder_is_no_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_package_data_exists() -> None:
    for pattern in PROJECT["tool"]["setuptools"]["package-data"]["shortcast"]:
        assert any(path.is_file() for path in ROOT.glob(pattern)), pattern


def test_the_root_package_is_lazy() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    eager = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {node.module for node in eager if isinstance(node, ast.ImportFrom)} <= {"__future__", "typing"}


def test_the_repository_stays_small() -> None:
    sizes = {path: path.stat().st_size for path in (ROOT / "samples").rglob("*") if path.is_file()}
    assert max(sizes.values()) < 5e6
    assert sum(sizes.values()) < 14e6
