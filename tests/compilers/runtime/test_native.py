import importlib
import os
import random
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ssir.compilers.runtime import native
from ssir.compilers.runtime.linear import linear
from ssir.compilers.runtime.scan import diagonal_scan
from ssir.compilers.runtime.signature import Signature

REPORT = """
import torch
from ssir.compilers.runtime import native, scan
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


TAKEN = "few_rows x(M,K) w[N,K] bias?[N] y(M,N) M K N"


@pytest.fixture
def numbers() -> dict[str, torch.Tensor | int | None]:
    """Right arguments of `few_rows`."""
    tensors = {"x": torch.ones(2, 3), "w": torch.ones(5, 3), "bias": None, "y": torch.empty(2, 5)}
    return {**tensors, "M": 2, "K": 3, "N": 5}


class Sub(torch.Tensor):
    pass


def freed() -> torch.Tensor:
    x = torch.ones(5, 3)
    x.untyped_storage().resize_(0)
    return x


WRONG: dict[str, tuple[str, Callable[[], Any], type[Exception]]] = {
    "narrow": ("w", lambda: torch.ones(5, 3, dtype=torch.bfloat16), TypeError),
    "wide": ("w", lambda: torch.ones(5, 3, dtype=torch.float64), TypeError),
    "whole numbers": ("y", lambda: torch.ones(2, 5, dtype=torch.int32), TypeError),
    "nowhere": ("w", lambda: torch.ones(5, 3, device="meta"), TypeError),
    "sparse": ("w", lambda: torch.ones(5, 3).to_sparse(), TypeError),
    "negated": ("w", lambda: torch._neg_view(torch.ones(5, 3)), TypeError),
    "subclass": ("w", lambda: torch.ones(5, 3).as_subclass(Sub), TypeError),
    "fake": ("w", lambda: FakeTensorMode().from_tensor(torch.ones(5, 3)), TypeError),
    "missing": ("w", lambda: None, TypeError),
    "number": ("x", lambda: 4, TypeError),
    "turned": ("w", lambda: torch.ones(3, 5).t(), ValueError),
    "repeated": ("y", lambda: torch.ones(1, 5).expand(2, 5), ValueError),
    "short": ("w", lambda: torch.ones(4, 3), ValueError),
    "long": ("bias", lambda: torch.ones(6), ValueError),
    "flat": ("w", lambda: torch.ones(15), ValueError),
    "freed": ("w", freed, ValueError),
    "half": ("K", lambda: 1.5, TypeError),
    "tensor for a number": ("K", lambda: torch.tensor(3), TypeError),
    "negative": ("M", lambda: -2, ValueError),
    "larger": ("M", lambda: 1 << 40, ValueError),
}


@pytest.mark.parametrize("case", WRONG)
def test_nothing_wrong_gets_into_native_code(numbers: dict[str, Any], case: str) -> None:
    name, make, error = WRONG[case]
    signature = Signature(TAKEN)
    signature.values(torch.float32, 1, *numbers.values())
    numbers[name] = make()
    with pytest.raises(error, match="few_rows: `"):
        signature.values(torch.float32, 1, *numbers.values())
    with pytest.raises(error, match="few_rows: `"):
        native.call("few_rows", torch.float32, *numbers.values())


def test_arguments_are_counted(numbers: dict[str, Any]) -> None:
    for given in ((*numbers.values(), 1), tuple(numbers.values())[:-1], ()):
        with pytest.raises((TypeError, ValueError)):
            native.call("few_rows", torch.float32, *given)


def test_rows_that_lie_apart_stay_within_their_memory() -> None:
    signature = Signature("f x{R:s,D:1} R D<=8 s")
    x = torch.ones(4, 10)
    signature.values(torch.float32, 1, x[:, :3], 4, 3, 10)
    signature.values(torch.float32, 1, x[:, 7:], 4, 3, 10)
    for wrong in ((x[:, 8:], 4, 3, 10), (x, 5, 3, 10), (x, 4, 3, 13), (x, 4, 9, 10), (x, -1, 3, 10), (x, 4, 3, -10)):
        with pytest.raises(ValueError, match="f: `"):
            signature.values(torch.float32, 1, *wrong)


@pytest.mark.parametrize(
    ("word", "x", "said"),
    [
        ("x[R,D]", torch.ones(2, 3), "`x[R,D]`, shape (2, 4); it is float32[2, 3] on cpu with strides [3, 1]"),
        ("x(R,D)", torch.ones(2, 3), "`x(R,D)`, elements: 8; it is float32[2, 3] on cpu"),
        ("x{R:4,D:1}", torch.ones(7), "`x{R:4,D:1}`, elements from the first on: 8; it is float32[7] on cpu"),
    ],
)
def test_what_is_refused_is_told_with_what_was_wanted(word: str, x: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Signature(f"f {word} R D").values(torch.float32, 1, x, 2, 4)


def test_random_arguments_are_right_or_refused() -> None:
    generator = random.Random(0)
    signature = Signature("f a[B,T/4,W-1] b?:bool[B] c(B,2*T) d{T:s,W:1} B T W<=4 s")
    taken = 0
    for _ in range(3000):
        sizes = tuple(generator.choice([0, 1, 2, 3, 4, 5]) for _ in range(4))
        shapes = [generator.choices([0, 1, 2, 3, 4, 8], k=generator.choice([1, 2, 3])) for _ in range(4)]
        b, t, w, s = sizes
        if generator.random() < 0.5:
            shapes = [[b, -(-t // 4), max(w - 1, 0)], [b], [b, t, 2], [t + 1, max(s, w, 1)]]
        dtypes = generator.choices([torch.float32, torch.bool, torch.float64], weights=[8, 1, 1], k=4)
        dtypes[1] = torch.bool
        tensors = [torch.zeros(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
        try:
            signature.values(torch.float32, 1, *tensors, *sizes)
        except (TypeError, ValueError):
            continue
        taken += 1
        assert [x.dtype for x in tensors] == [torch.float32, torch.bool, torch.float32, torch.float32]
        assert list(tensors[0].shape) == [b, -(-t // 4), w - 1] and list(tensors[1].shape) == [b] and w <= 4
        assert tensors[2].numel() == 2 * b * t
        assert 0 in (t, w) or tensors[3].numel() >= (t - 1) * s + w
    assert taken > 50


def test_every_c_function_says_what_it_takes() -> None:
    families = ("plugins.attention.kernels.attention", "plugins.convolution.kernels.fir")
    for name in (*families, "compilers.runtime.linear", "compilers.runtime.pointwise"):
        importlib.import_module(f"ssir.{name}")
    declared = {name: len(signature.arguments) + 1 for name, signature in native._signatures.items()}
    found = {}
    root = Path(native.__file__).parents[2]
    for path in (*root.glob("compilers/runtime/*.c"), *root.glob("plugins/*/kernels/*.c")):
        for name, arguments in re.findall(r"^void (\w+)\(([^)]*)\)", path.read_text(), re.MULTILINE):
            found[name] = arguments.count("int64_t")
    assert {name: declared.get(name) for name in found} == found
