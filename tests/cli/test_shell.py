"""Completion in a real shell, and files that are checked whenever they change."""

import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from ssir.cli import main
from ssir.cli.shell import watched
from ssir.errors import UsageError
from tests.cli.test_cli import BAD, GOOD

Captured = pytest.CaptureFixture[str]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ssir pl", {"plan", "plugins"}),
        ("ssir plan mamba", {"mamba", "mamba2", "mambax"}),
        ("ssir draw lstm gr", {"griffin", "gru"}),
        ("ssir draw lstm --lev", {"--level"}),
        ("ssir check my", {"my.yaml"}),
    ],
)
def test_bash_completes_commands_options_names_and_files(
    typed: str, offered: set[str], tmp_path: Path, capsys: Captured
) -> None:
    assert main(["completion", "bash"]) == 0
    (tmp_path / "ssir.bash").write_text(capsys.readouterr().out)
    (tmp_path / "my.yaml").write_text(GOOD)
    words = typed.split()
    asked = f"source ./ssir.bash; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _shtab_ssir ssir {words[-1]} {words[-2]}; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert offered <= set(done.stdout.split())
    assert all(one.startswith(words[-1]) for one in done.stdout.split())


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_a_script_too(shell: str, capsys: Captured) -> None:
    assert main(["completion", shell]) == 0
    assert "ssir" in capsys.readouterr().out


def test_a_watched_file_is_checked_again_when_it_changes(tmp_path: Path, capsys: Captured) -> None:
    path, looks = tmp_path / "one.yaml", 0
    path.write_text(BAD)

    def edit() -> None:
        nonlocal looks
        looks += 1
        if looks > 1:
            raise KeyboardInterrupt
        path.write_text(GOOD)

    assert watched(lambda: main(["check", str(path)]), [str(path)], edit) == 0
    out, err = capsys.readouterr()
    assert "SSIR" in err
    assert out.endswith("one.yaml: good (1 component)\n")
    assert err.count("watching") == 2


def test_a_change_beside_a_watched_file_is_seen(tmp_path: Path) -> None:
    path, checks = tmp_path / "one.yaml", []
    path.write_text(GOOD)

    def check() -> int:
        checks.append(time.monotonic())
        if len(checks) == 2:
            raise KeyboardInterrupt
        threading.Timer(0.05, (tmp_path / "other.yaml").write_text, [GOOD]).start()
        return 3

    assert watched(check, [str(path)]) == 3
    assert len(checks) == 2


def test_what_is_no_file_cannot_be_watched(capsys: Captured) -> None:
    with pytest.raises(UsageError, match="`mamba` is no file"):
        watched(lambda: 0, ["mamba"])
    assert main(["check", "--watch", "--json", "x.yaml"]) == 2
    assert "exclude each other" in capsys.readouterr().err
