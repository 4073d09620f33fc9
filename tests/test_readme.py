"""What the documents say can be typed, can be typed."""

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = sorted(
    {
        (page.name, line.split("#")[0].strip())
        for page in PAGES
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
        for line in block.splitlines()
        if "shortcast " in line and "pip install" not in line
    }
)


@cache
def help_of(*command: str) -> str:
    environment = {"COLUMNS": "300", "PATH": "", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-m", "shortcast", *command, "--help"], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 8


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_documented_command_and_its_options_exist(page: str, line: str) -> None:
    words = shlex.split(line.split("| ")[-1].split(" > ")[0])
    words = words[words.index("shortcast") + 1 :]
    command = words[:2] if words[0] == "data" or words[:2] == ["bench", "compare"] else words[:1]
    options = {word.split("=")[0] for word in words if word.startswith("-") and word != "-"}
    text = help_of(*command)
    for option in options:
        assert option in text, f"{page}: {line}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_readme_names_the_two_commands() -> None:
    assert {"make demo", "make test"} <= set(re.findall(r"make \w+", (ROOT / "README.md").read_text()))
