"""What is installed is what is in the tree: the links, the data and the entry points all arrive."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("ssir", "compilers", "plugins", "zoo")
SUFFIXES = {".py", ".yaml", ".c", ".h", ".typed", ".html", ".css", ".js"}


def run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources: building writes beside them."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    """The wheel, built from the sdist and not from the tree."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", ".", cwd=tree)
    return next((tree / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
    run(*pip, "--no-index", "--no-deps", "--target", target, wheel, cwd=target)
    return target


def test_the_links_are_links() -> None:
    for name in FOLDERS[1:]:
        assert os.readlink(ROOT / "ssir" / name) == f"../{name}"


def test_the_wheel_holds_every_source_and_data_file_of_the_tree(tree: Path, wheel: Path) -> None:
    wanted = set()
    for folder in FOLDERS:
        top = Path("ssir") if folder == "ssir" else Path("ssir", folder)
        for directory, links, files in os.walk(tree / folder):
            links[:] = [name for name in links if not (Path(directory) / name).is_symlink()]
            below = Path(directory).relative_to(tree / folder)
            wanted |= {str(top / below / name) for name in files if Path(name).suffix in SUFFIXES}
    held = set(zipfile.ZipFile(wheel).namelist())
    assert wanted - held == set()
    assert {name for name in held if Path(name).suffix in SUFFIXES} == wanted


def test_only_the_package_lands_in_site_packages(installed: Path) -> None:
    found = {path.name for path in installed.iterdir()}
    assert {name for name in found if not name.endswith(".dist-info")} <= {"ssir", "bin"}


def test_the_installed_package_is_whole_without_the_sources(installed: Path, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(installed)!r})\n"
        "import ssir, ssir.compilers, ssir.plugins, ssir.zoo, ssir.spec.yaml\n"
        "print(ssir.__file__, ssir.zoo.__file__)"
    )
    for place in run(sys.executable, "-c", program, cwd=tmp_path).split():
        assert Path(place).is_relative_to(installed)


def test_the_entry_points_name_the_projects_own_plugins(installed: Path) -> None:
    (distribution,) = distributions(path=[str(installed)])
    plugins = distribution.entry_points.select(group="ssir.plugins")
    own = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py"))
    assert sorted(plugin.name for plugin in plugins) == own
    assert all(plugin.value == f"ssir.plugins.{plugin.name}:register" for plugin in plugins)
    (script,) = distribution.entry_points.select(group="console_scripts")
    assert script.value == "ssir.cli:main"
