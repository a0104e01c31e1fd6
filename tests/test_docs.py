"""The documentation is true: what is generated is fresh, what is shown runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ssir import catalogue
from ssir.diff import page as compared
from ssir.docs import PAGES
from ssir.draw import render

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(PAGES))
def test_generated_pages_are_fresh(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == PAGES[name](), "run: python -m ssir.docs"


@pytest.mark.parametrize("row", catalogue.rows(), ids=lambda row: row.name)
def test_the_pictures_of_the_zoo_are_fresh(row: catalogue.Row) -> None:
    assert render.digest(row.picture) in (ROOT / "docs" / row.file).read_text(encoding="utf-8"), (
        "run: python -m ssir.docs"
    )


def test_the_pictures_of_pairs_are_fresh() -> None:
    for file, one in compared.found():
        assert render.digest(one.draw()) in (ROOT / "docs" / file).read_text(encoding="utf-8"), (
            "run: python -m ssir.docs"
        )


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    (tmp_path / "decaying.yaml").write_text(blocks("yaml")[0])
    commands = [line.split("#")[0].split() for line in blocks("sh")[1].splitlines() if line.strip()]
    assert len(commands) >= 6
    for command in commands:
        assert command[0] == "ssir"
        done = subprocess.run(
            [sys.executable, "-m", "ssir.cli", *command[1:]], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert {"x.svg", "y.png", "out"} <= {path.name for path in tmp_path.iterdir()}


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", blocks("python")[0]], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_links_of_the_documentation_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
