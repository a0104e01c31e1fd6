"""The equations of every row of the zoo go through a real LaTeX, and stay in their lines."""

from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import Phase, given, seed, settings

from ssir.cli import main
from ssir.errors import SpecError
from ssir.latex.document import END, PREAMBLE, body
from ssir.spec.load import load, loads, zoo
from tests.latex.compiled import lacks, log_of, overfull
from tests.latex.odd import ODD
from tests.random.specs import specs

pytestmark = pytest.mark.skipif(bool(lacks()), reason=lacks())
_BETWEEN = "\\newpage\\setcounter{equation}{0}\n"


def test_the_whole_zoo_compiles_and_no_line_runs_out_of_the_page(tmp_path: Path) -> None:
    names = [name for name, _ in zoo()]
    bodies = [body(load(name)) + _BETWEEN for name in names]
    ends = list(accumulate((one.count("\n") for one in bodies), initial=PREAMBLE.count("\n")))[1:]
    log = log_of(PREAMBLE + "".join(bodies) + END, tmp_path)
    told = [
        f"{next(name for name, end in zip(names, ends, strict=True) if line <= end)}: {points} points"
        for points, line in overfull(log)
    ]
    assert not told, "\n".join(told)
    assert len(names) > 60


def test_a_line_that_runs_out_of_the_page_is_seen(tmp_path: Path) -> None:
    wide = "\\begin{align}\n x &= " + " + ".join(["\\mathrm{abcdefgh}"] * 20) + "\n\\end{align}\n"
    assert overfull(log_of(PREAMBLE + wide + END, tmp_path))


def test_a_fault_in_a_document_is_seen(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Undefined control sequence"):
        log_of(PREAMBLE + "$\\undefined$\n" + END, tmp_path)


def test_what_the_command_prints_is_a_whole_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "mamba.mixer", "--latex"]) == 0
    log_of(capsys.readouterr().out, tmp_path, draft=False)
    assert (tmp_path / "page.pdf").stat().st_size > 10_000


def test_signs_of_latex_and_letters_that_it_lacks_do_no_harm(tmp_path: Path) -> None:
    log = log_of(PREAMBLE + body(loads(ODD)) + END, tmp_path)
    assert not overfull(log)


def test_whatever_can_be_declared_can_be_printed(tmp_path: Path) -> None:
    bodies: list[str] = []

    @seed(5)
    @settings(max_examples=40, phases=(Phase.generate,))
    @given(specs())
    def each(text: str) -> None:
        spec = loads(text)
        try:
            _ = spec.graph
        except SpecError:
            return
        bodies.append(body(spec) + _BETWEEN)

    each()
    assert len(bodies) > 20
    assert not overfull(log_of(PREAMBLE + "".join(bodies) + END, tmp_path))
