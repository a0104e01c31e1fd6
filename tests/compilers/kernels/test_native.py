import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ssir.compilers.kernels import native
from ssir.compilers.kernels.linear import linear
from ssir.compilers.kernels.scan import diagonal_scan

REPORT = """
import torch
from ssir.compilers.kernels import native, scan
h, _ = scan.diagonal_scan(torch.ones(1, 4, 2), torch.ones(1, 4, 2))
assert h[0, :, 0].tolist() == [1, 2, 3, 4]
print(native.available(), native.reason())
"""


def report(**environment: str) -> str:
    """What a fresh process says about native code."""
    variables = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", REPORT], env=variables, capture_output=True, text=True, check=True)
    return done.stdout


def test_kernels_work_without_native_code(tmp_path: Path) -> None:
    assert report(SSIR_NATIVE="0").startswith("False turned off")
    empty = {"PATH": str(tmp_path), "CC": "", "XDG_CACHE_HOME": str(tmp_path)}
    assert report(**empty).startswith("False no C compiler found")
    assert report(CC="false", XDG_CACHE_HOME=str(tmp_path)).startswith("False")


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Compiling, without the work: every library asked for, each a file with its number in it."""
    made: list[Path] = []

    def compile(compiler: list[str], real: str, sources: list[Path], target: Path) -> None:
        made.append(target)
        target.write_text(str(len(made)))
        target.chmod(0o700)

    monkeypatch.setattr(native, "_compile", compile)
    monkeypatch.setattr(native, "_compiler", lambda: ["cc"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SSIR_NATIVE", raising=False)
    return made


def test_library_is_kept_in_a_private_directory(builds: list[Path], tmp_path: Path) -> None:
    library = native._build("float")
    assert library.parent == tmp_path / "ssir" / "native"
    assert stat.S_IMODE(library.parent.stat().st_mode) == 0o700
    assert native._build("float") == library
    assert len(builds) == 1
    assert native._build("double") != library


def test_what_others_could_have_written_is_not_loaded(builds: list[Path], tmp_path: Path) -> None:
    library = native._build("float")
    library.chmod(0o777)
    assert native._build("float").read_text() == "2"
    library.unlink()
    library.symlink_to(tmp_path / "elsewhere")
    native._build("float")
    assert len(builds) == 3
    library.parent.chmod(0o777)
    assert native._build("float").parent != library.parent


def test_another_compiler_or_other_flags_give_another_library(
    builds: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = native._build("float")
    monkeypatch.setattr(native, "_compiler", lambda: ["cc", "-m64"])
    second = native._build("float")
    monkeypatch.setattr(native, "_cpu", lambda: "another")
    assert len({first, second, native._build("float")}) == 3


def test_only_plain_tensors_of_one_type_are_taken(way: str) -> None:
    x = torch.ones(2)
    assert native.usable(x, None, x > 0) == (way == "native")
    assert not native.usable(x, x.double())
    assert not native.usable(x.bfloat16())
    assert not native.usable(x.to("meta"))
    assert not native.usable(torch.view_as_complex(torch.ones(2, 2)).conj().imag)


def test_kernels_can_be_traced_whole() -> None:
    x, w = torch.randn(2, 5, 512), torch.randn(512, 512)
    for function, arguments in ((diagonal_scan, (x.sigmoid(), x)), (linear, (x, w))):
        compiled = torch.compile(function, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(*arguments), function(*arguments), rtol=1e-4, atol=1e-4)
