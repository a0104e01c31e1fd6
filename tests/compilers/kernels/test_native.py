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


@pytest.mark.skipif(not native.available(), reason="no native code here")
def test_library_is_kept_in_a_private_directory(tmp_path: Path) -> None:
    assert report(XDG_CACHE_HOME=str(tmp_path)).startswith("True")
    (library,) = (tmp_path / "ssir" / "native").iterdir()
    assert stat.S_IMODE(library.parent.stat().st_mode) == 0o700
    before = library.stat().st_mtime_ns
    assert report(XDG_CACHE_HOME=str(tmp_path)).startswith("True")
    assert library.stat().st_mtime_ns == before, "compiled again"
    # What others can write to is not loaded.
    library.write_bytes(b"planted")
    library.chmod(0o777)
    assert report(XDG_CACHE_HOME=str(tmp_path)).startswith("True")
    assert library.read_bytes() != b"planted"


@pytest.mark.skipif(not native.available(), reason="no native code here")
def test_an_untrusted_cache_directory_is_not_used(tmp_path: Path) -> None:
    directory = tmp_path / "ssir" / "native"
    directory.mkdir(parents=True)
    directory.chmod(0o777)
    assert report(XDG_CACHE_HOME=str(tmp_path)).startswith("True")
    assert not list(directory.iterdir())


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
