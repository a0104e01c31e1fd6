"""Compiles C once per machine and calls it on tensors: the files of this folder, and what a model has been written as.

Nothing happens on import. The first kernel that wants native code compiles all `.c` files, one library per real type,
into a private cache directory; where that is impossible `available()` is false, `reason()` says why, and every kernel
uses its PyTorch twin. A text that is handed over becomes a library of its own.
`SSIR_NATIVE=0` turns native code off.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .signature import Signature

REAL = {torch.float32: "float", torch.float64: "double"}
FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
# Tried in this order: a compiler may lack 512-bit vectors, OpenMP (Apple's clang) or -march=native.
VARIANTS = (
    ("-march=native", "-mprefer-vector-width=512", "-fopenmp"),
    ("-march=native", "-fopenmp"),
    ("-march=native", "-fopenmp-simd"),
    ("-fopenmp",),
    (),
)


class NativeError(Exception):
    """Why native code cannot be had here."""


def available() -> bool:
    """Whether kernels run as compiled C here."""
    return library(torch.float32) is not None


def reason() -> str:
    """Why native code is not available; empty where it is."""
    library(torch.float32)
    return _failures.get(torch.float32, "")


def usable(*tensors: Tensor | None) -> bool:
    """Whether native code can take these tensors: plain CPU tensors of one real type (or bool), nobody watching."""
    if not alone():
        return False
    dtype: torch.dtype | None = None
    for tensor in tensors:
        if tensor is None:
            continue
        if not plain(tensor):
            return False
        own = tensor.dtype
        if own is not dtype and own is not torch.bool:
            if dtype is not None:
                return False
            dtype = own
    return dtype in REAL and library(dtype) is not None


def plain(tensor: Tensor) -> bool:
    """Whether the tensor is what it seems: no subclass, and its numbers lie in main memory as they are."""
    if type(tensor) not in _TENSORS or not tensor.is_cpu:
        return False
    return tensor.layout is torch.strided and not tensor.is_neg()


def tracing() -> bool:
    """Whether a compiler or a function transform is watching, which cannot see into native code."""
    return watched() or transformed()


def alone() -> bool:
    """Whether nobody is watching, and no derivative goes forward along with the numbers."""
    if not torch.compiler.is_compiling() and _settled.get():
        return True
    return not tracing() and forward_ad._current_level < 0


def ready(dtype: torch.dtype) -> bool:
    """Whether native code may run on numbers of this type without a look at who watches: it was found out for the whole call."""
    return dtype in REAL and not torch.compiler.is_compiling() and _settled.get()


_settled: ContextVar[bool] = ContextVar("settled", default=False)


@contextmanager
def settled() -> Iterator[None]:
    """Inside, all are ``alone``, and will be: it was found out once for all kernels of a call."""
    token = _settled.set(True)
    try:
        yield
    finally:
        _settled.reset(token)


def watched() -> bool:
    """Whether somebody writes down what runs, to run it again on other sizes."""
    if not torch.compiler.is_compiling() and _settled.get():
        return False
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return True
    return torch._C._len_torch_dispatch_stack() > 0 and any(map(torch._C._get_dispatch_mode, _TRACERS))


_repeated: ContextVar[bool] = ContextVar("repeated", default=False)


@contextmanager
def repeated() -> Iterator[None]:
    """Inside, what runs is captured, to be repeated on other numbers."""
    token = _repeated.set(True)
    try:
        yield
    finally:
        _repeated.reset(token)


def captured() -> bool:
    """Whether what runs is ``repeated``."""
    return _repeated.get()


def sees(*tensors: Tensor) -> bool:
    """Whether Python may look at the numbers of tensors and go by what it finds: on a device that would be waiting, and one who writes
    down or captures what runs would repeat it on other numbers."""
    return all(x.is_cpu for x in tensors) and not watched() and not _repeated.get()


def transformed() -> bool:
    """Whether a transform of torch.func is at work."""
    return torch._C._are_functorch_transforms_active()


_TENSORS = (Tensor, torch.nn.Parameter)
_TRACERS = (
    torch._C._TorchDispatchModeKey.FAKE,
    torch._C._TorchDispatchModeKey.PROXY,
    torch._C._TorchDispatchModeKey.FUNCTIONAL,
)


def declare(*texts: str, source: str = "") -> None:
    """Say what C functions take: nothing is called whose arguments are not as its signature says. source: the text that they stand in,
    if it is none of the files."""
    for text in texts:
        signature = Signature(text)
        _signatures[signature.name], _sources[signature.name] = signature, source


def beside(module: str, name: str) -> str:
    """The text of a C file that stands beside a module."""
    return Path(module).with_name(name).read_text(encoding="utf-8")


_signatures: dict[str, Signature] = {}
_sources: dict[str, str] = {}


def call(name: str, dtype: torch.dtype, *arguments: Tensor | int | None) -> None:
    """Call C function `name` for numbers of `dtype`: tensors go as pointers, None as NULL, integers as they are.

    Raises TypeError or ValueError where an argument is not as the signature says."""
    _function(dtype, name)(*_signatures[name].values(dtype, torch.get_num_threads(), *arguments))


_failures: dict[torch.dtype, str] = {}


@functools.cache
def library(dtype: torch.dtype, source: str = "") -> ctypes.CDLL | None:
    """The library for one real type, of the files or of a text, compiled if need be; None where that failed."""
    try:
        return ctypes.CDLL(str(_build(REAL[dtype], source)))
    except (NativeError, OSError, subprocess.SubprocessError) as error:
        _failures[dtype] = str(error) or type(error).__name__
        return None


@functools.cache
def _function(dtype: torch.dtype, name: str) -> "ctypes._NamedFuncPointer":
    loaded = library(dtype, _sources[name])
    if loaded is None:
        raise NativeError(_failures[dtype])
    function: ctypes._NamedFuncPointer = getattr(loaded, name)
    function.restype = None
    # A pointer fits into an int64 and travels like one wherever these kernels are built.
    function.argtypes = [ctypes.c_int64] * (len(_signatures[name].arguments) + 1)  # the number of threads
    return function


def _build(real: str, text: str = "") -> Path:
    """The path of the shared library for `real`, from the cache or freshly compiled."""
    if os.environ.get("SSIR_NATIVE") == "0":
        raise NativeError("turned off by SSIR_NATIVE=0")
    if os.name != "posix" or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise NativeError("native kernels need a 64-bit POSIX system")
    compiler = _compiler()
    folder = Path(__file__).parent
    wanted = (".h",) if text else (".c", ".h")
    sources = sorted(path for path in folder.iterdir() if path.suffix in wanted)
    digest = hashlib.sha256(repr((real, FLAGS, VARIANTS, _cpu(), text, *map(_identity, compiler))).encode())
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    target = cache_directory() / f"{'loops' if text else 'kernels'}-{real}-{digest.hexdigest()[:32]}.so"
    if not _is_private(target, stat.S_ISREG):
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            if text:
                written = Path(scratch) / "loops.c"
                written.write_text(text)
                sources = [written]
            _compile(compiler, real, [path for path in sources if path.suffix == ".c"], target)
    return target


def _compile(compiler: list[str], real: str, sources: list[Path], target: Path) -> None:
    problem, defined = "", (f"-DREAL={real}", f"-I{Path(__file__).parent}")
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        output = Path(scratch) / target.name
        for variant in VARIANTS:
            command = [*compiler, *FLAGS, *variant, *defined, *map(str, sources), "-o", str(output), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode == 0:
                output.chmod(0o700)
                output.replace(target)  # atomic, so that a concurrent process sees a whole library or none
                return
            problem = problem or done.stderr.strip()
    raise NativeError(f"{shlex.join(compiler)} failed: {problem[:2000]}")


def _compiler() -> list[str]:
    wanted = shlex.split(os.environ.get("CC", ""))
    for command in (wanted, ["cc"], ["gcc"], ["clang"]):
        path = shutil.which(command[0]) if command else None
        if path:
            return [path, *command[1:]]
    raise NativeError("no C compiler found; set CC or install cc, gcc or clang")


def _identity(word: str) -> str:
    """A word of the compiler command; for an executable also what changes with an update of it."""
    path = Path(word)
    if not path.is_absolute() or not path.exists():
        return word
    real = path.resolve()
    status = real.stat()
    return f"{real}:{status.st_size}:{status.st_mtime_ns}"


def _cpu() -> str:
    """What -march=native looks at."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    described = {line.partition(":")[0].strip(): line for line in lines}
    keys = ("model name", "cpu family", "model", "flags", "Features", "CPU part")
    return "\n".join([platform.machine(), platform.processor(), *(described.get(key, "") for key in keys)])


def cache_directory() -> Path:
    """A directory that only this user can write to: elsewhere somebody could plant a library."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "ssir" / "native"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return Path(_scratch().name)
    if not _is_private(directory, stat.S_ISDIR) or not os.access(directory, os.W_OK):
        return Path(_scratch().name)
    return directory


@functools.cache
def _scratch() -> "tempfile.TemporaryDirectory[str]":
    """For this process only, where there is no trustworthy cache; removed at exit."""
    return tempfile.TemporaryDirectory(prefix="ssir-native-")


def _is_private(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether `path` exists, is no link, belongs to this user and nobody else can touch it."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return kind(status.st_mode) and status.st_uid == os.getuid() and not stat.S_IMODE(status.st_mode) & 0o077
