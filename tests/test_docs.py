"""The documentation is true: what is generated is fresh, what is shown runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ssir
from ssir import catalogue, passes
from ssir.compilers.plan import plan
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


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


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


def test_every_argument_has_a_kind() -> None:
    assert not re.findall(r"`\w+`: (?:;|$)", PAGES["functions.md"](), re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "docs/writing.md"])
def test_the_python_of_the_documentation_runs(page: str, tmp_path: Path) -> None:
    (found,) = blocks("python", (ROOT / page).read_text("utf-8"))
    done = subprocess.run([sys.executable, "-c", found], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_links_of_the_documentation_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


WRITING = re.findall(
    r"^\| ([^|]+) \| (`.+`) \| ([a-z, ]+) \|$", (ROOT / "docs" / "writing.md").read_text("utf-8"), re.MULTILINE
)


@pytest.mark.parametrize(("wanted", "written", "form"), WRITING, ids=[wanted for wanted, *_ in WRITING])
def test_what_authors_are_told_to_write_is_planned_as_they_are_told(wanted: str, written: str, form: str) -> None:
    lines = "\n".join(f"      {line}" for line in re.findall("`([^`]+)`", written))
    spec = ssir.loads(f"""
ssir: 1
name: one
dims: {{model: 128, head: 4, key: 32, value: 32, slot: unbounded, near: 64, tap: 4, bucket: 32}}
components:
  main:
    input: {{u: [model]}}
    graph:
      q: linear(u, [head, key])
      k: l2_norm(linear(u, [head, key]), over=key)
      v: linear(u, [head, value])
{lines}
    output: y
main: main
""")
    assert form in {entry.match.form.name for entry in plan(passes.run(spec.graph)).entries}


def test_the_page_for_authors_has_its_tables() -> None:
    assert len(WRITING) >= 16
