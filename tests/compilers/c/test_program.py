"""The backend `c`: programs that are compiled with every warning and sanitizer, run, and compared with the meaning."""

import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ssir
from ssir.catalogue import rows
from ssir.cli import main
from ssir.compilers.runtime.model import Model
from ssir.errors import UsageError
from ssir.ir.graph import Graph
from tests.small import SMALL, inputs, small

STRICT = "-std=c11 -Wall -Wextra -Werror -g -O1 -fsanitize=address,undefined -fno-sanitize-recover -fopenmp".split()
KINDS = ["t5", "lstm", "gpt2", "mamba", "cat", "griffin", "s4", "dhen", "inception", "jamba", "hippo_legs"]


def built(folder: Path, *flags: str, source: str = "model.c") -> Path:
    command = ["cc", *STRICT, *flags, source, *(["model.c"] if source != "model.c" else []), "-o", "program", "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "program"


def run(folder: Path, feed: str, *options: str) -> str:
    (weights,) = folder.glob("*.weights")
    command = [str(folder / "program"), "-w", str(weights), *options]
    done = subprocess.run(command, input=feed, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def fed(graph: Graph, xs: list[Tensor]) -> str:
    """The inputs of a program: whole sequences, a line each, then those of each step."""
    named = [(x[0], node.name in graph.whole) for node, x in zip(graph.inputs, xs, strict=True)]
    lines = [x.flatten().tolist() for x, whole in named if whole]
    steps = next(len(x) for x, whole in named if not whole)
    lines += [[v for x, whole in named if not whole for v in x[t].flatten().tolist()] for t in range(steps)]
    return "\n".join(" ".join(map(str, line)) for line in lines)


def numbers(text: str) -> Tensor:
    return torch.tensor([[float(word) for word in line.split()] for line in text.splitlines()], dtype=torch.float64)


def meant(model: Model, xs: list[Tensor]) -> Tensor:
    """[steps, entries of all outputs]; of answers, what they are so far."""
    if model.ANSWERS:
        found, state = [], None
        for t in range(xs[0].shape[1]):
            y, state = ssir.reference(model, *(x[:, t : t + 1] for x in xs), state=state)
            found.append(torch.cat([one[0].flatten() for one in (y.values() if isinstance(y, dict) else [y])]))
        return torch.stack(found)
    y, _ = ssir.reference(model, *xs)
    return torch.cat([one[0].flatten(1) for one in (y.values() if isinstance(y, dict) else [y])], 1)


def agrees(name: str, folder: Path, steps: int, dtype: torch.dtype = torch.float32) -> None:
    program = ssir.compile(small(name), backend="c", dtype=dtype)
    program.save(folder / name)
    built(folder / name, "-DMAIN")
    xs = inputs(program.model.graph, 1, int(min(steps, small(name).dims.get("length") or steps)), dtype)
    found, wanted = numbers(run(folder / name, fed(program.model.graph, xs))), meant(program.model, xs)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-7  # as many digits as are printed
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance * wanted.abs().max().item())


@pytest.mark.parametrize("name", KINDS)
def test_a_program_computes_what_the_spec_means(name: str, tmp_path: Path) -> None:
    agrees(name, tmp_path, 80)


def test_a_program_in_float64(tmp_path: Path) -> None:
    agrees("gpt2", tmp_path, 30, torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("name", [row.name for row in rows()])
def test_every_spec_that_steps_is_a_program(name: str, tmp_path: Path) -> None:
    if ssir.compile(small(name)).has_step:
        agrees(name, tmp_path, 200)


@pytest.mark.parametrize("name", ["gpt2", "sliding_window", "mamba"])
def test_rows_prefill_copies_and_drafts(name: str, tmp_path: Path) -> None:
    program = ssir.compile(small(name), backend="c")
    folder = program.save(tmp_path / name)
    (folder / "driver.c").write_text(Path(__file__).with_name("driver.c").read_text())
    size = program.model.OUTPUTS[0][1][0]
    steps = int(min(90, (small(name).dims.get("length") or 400) - 20))
    built(folder, f"-DNAME={name}", f"-DSIZE={size}", f"-DSTEPS={steps}", "-DDRAFT=7", source="driver.c")
    done = subprocess.run([folder / "program", folder / f"{name}.weights"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_whole_sequences_are_read_once_and_copied(tmp_path: Path) -> None:
    folder = ssir.compile(small("vaswani"), backend="c").save(tmp_path / "vaswani")
    (folder / "driver.c").write_text(Path(__file__).with_name("whole.c").read_text())
    size = ssir.compile(small("vaswani")).OUTPUTS[0][1][0]
    built(folder, f"-DSIZE={size}", source="driver.c")
    done = subprocess.run([folder / "program", folder / "vaswani.weights"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that is given whole sequences."""
    folder: Path = ssir.compile(small("vaswani"), backend="c").save(tmp_path_factory.mktemp("translator") / "vaswani")
    built(folder, "-DMAIN")
    return folder


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        ("", "the first lines: not the numbers of whole sequences"),
        ("\n1", "the first lines: not the numbers of whole sequences"),
        ("1 2 x\n1", "the first lines: not the numbers of whole sequences"),
        ("1 2 1000\n1", "the first lines: a token that is not in its table"),
        ("1 2\n1000", "step 0: a token that is not in its table"),
    ],
)
def test_a_program_says_what_is_wrong_with_whole_sequences(feed: str, said: str, translator: Path) -> None:
    command = ["./program", "-w", "vaswani.weights"]
    done = subprocess.run(command, cwd=translator, input=feed, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and said in done.stderr


def test_without_openmp_nothing_is_said(tmp_path: Path) -> None:
    folder = ssir.compile(small("lstm"), backend="c").save(tmp_path / "lstm")
    command = ["cc", *(flag for flag in STRICT if flag != "-fopenmp"), "-DMAIN", "model.c", "-o", "program", "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_a_header_is_read_by_cpp(tmp_path: Path) -> None:
    folder = ssir.compile(small("lstm"), backend="c").save(tmp_path / "lstm")
    command = ["c++", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++", "model.h"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_shared_is_written_once(tmp_path: Path) -> None:
    program = ssir.compile(ssir.load("gpt2", None, **(SMALL["gpt2"] | {"vocab": 3000})), backend="c")
    program.save(tmp_path / "gpt2")
    (weights,) = (tmp_path / "gpt2").glob("*.weights")
    assert weights.stat().st_size < 1.2 * sum(4 * x.numel() for x in program.model.parameters())


def test_whole_numbers_of_eight_bits(tmp_path: Path) -> None:
    spec = ssir.load("mamba", None, model=64, inner=128, layers=2, vocab=96)
    program = ssir.compile(spec, backend="c")
    whole, narrow = program.save(tmp_path / "whole"), program.save(tmp_path / "narrow", int8=True)
    sizes = [next(one.glob("*.weights")).stat().st_size for one in (whole, narrow)]
    assert sizes[1] < 0.5 * sizes[0]
    built(narrow, "-DMAIN")
    xs = [torch.randint(0, 96, (1, 60), generator=torch.Generator().manual_seed(0))]
    found, wanted = numbers(run(narrow, fed(program.model.graph, xs))), meant(program.model, xs)
    error = ((found - wanted).norm() / wanted.norm()).item()
    assert 1e-5 < error < 0.02


def test_a_program_goes_on_by_the_likeliest_and_tells_perplexity(tmp_path: Path) -> None:
    program = ssir.compile(small("lstm"), backend="c")
    folder = program.save(tmp_path / "lstm")
    binary = built(folder, "-DMAIN")
    found = list(map(int, run(folder, "1 2 3", "-n", "4").split()))
    tokens = [1, 2, 3]
    for _ in range(4):
        tokens.append(int(program.model(torch.tensor([tokens]))[0][0, -1].argmax()))
    assert found == tokens[3:]
    done = subprocess.run(
        [binary, "-p"], cwd=tmp_path, input="1 2 3 4", capture_output=True, text=True, check=False
    )  # from anywhere: the weights lie beside the program
    y, _ = program.model(torch.tensor([[1, 2, 3]]))
    wanted = torch.nn.functional.cross_entropy(y[0], torch.tensor([2, 3, 4])).exp().item()
    assert done.stderr.startswith(f"perplexity {wanted:.2f}")


@pytest.mark.parametrize(
    ("feed", "options", "said"),
    [
        ("1 1000", (), "step 1: a token that is not in its table"),
        ("1", ("-x",), "usage: lstm"),
        ("1", ("-w", "nowhere"), "nowhere: cannot be opened"),
        ("1", ("-w", "model.h"), "model.h: not the weights of lstm"),
    ],
)
def test_a_program_says_what_is_wrong(feed: str, options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    folder = ssir.compile(small("lstm"), backend="c").save(tmp_path / "lstm")
    built(folder, "-DMAIN")
    done = subprocess.run(["./program", *options], cwd=folder, input=feed, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and said in done.stderr


def test_weights_of_another_program_are_refused(tmp_path: Path) -> None:
    folder = ssir.compile(small("lstm"), backend="c").save(tmp_path / "lstm")
    other = ssir.compile(small("gru"), backend="c").save(tmp_path / "gru")
    built(folder, "-DMAIN")
    command = ["./program", "-w", other / "gru.weights"]
    done = subprocess.run(command, cwd=folder, input="1", capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "not the weights of lstm" in done.stderr


def test_what_cannot_be_written_says_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"`bert` cannot be written as C: `context` reads the whole sequence"):
        ssir.compile(small("bert"), backend="c")
    with pytest.raises(UsageError, match="float32 or float64"):
        ssir.compile(small("lstm"), backend="c", dtype="bfloat16")
    program = ssir.compile(small("lstm"), backend="c")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("kept")
    with pytest.raises(UsageError, match="is there already"):
        program.save(tmp_path / "mine")
    with pytest.raises(UsageError, match="no C program of SSIR"):
        program.save(tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "file").read_text() == "kept"


def test_the_command_writes_a_program_of_a_spec_or_an_artifact(tmp_path: Path) -> None:
    set_ = ["--set", "model=16", "--set", "vocab=20", "--set", "layers=1"]
    assert main(["compile", "lstm", *set_, "--backend", "c", "-o", str(tmp_path / "one")]) == 0
    assert main(["compile", "lstm", *set_, "-o", str(tmp_path / "artifact")]) == 0
    assert main(["compile", str(tmp_path / "artifact"), "--backend", "c", "-o", str(tmp_path / "two")]) == 0
    for name in ("model.c", "model.h", "Makefile", "lstm.weights"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    done = subprocess.run(["make", "-C", tmp_path / "one", "CFLAGS=-O0"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert main(["compile", "lstm", "--int8", "-o", str(tmp_path / "three")]) != 0
    assert main(["compile", str(tmp_path / "artifact")]) != 0
