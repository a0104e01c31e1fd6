"""pdflatex, where there is one: what it makes of a document, and what sticks out of its lines."""

import re
import shutil
import subprocess
from pathlib import Path


def lacks() -> str:
    """What a document needs that is not here; empty if nothing."""
    if shutil.which("pdflatex") is None:
        return "there is no pdflatex here: apt-get install texlive-latex-recommended"
    found = subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False)
    return "" if found.returncode == 0 else "LaTeX lacks booktabs here: apt-get install texlive-latex-recommended"


def log_of(source: str, folder: Path, draft: bool = True) -> str:
    """The log of compiling a document; a fault in it is an AssertionError that shows the place."""
    (folder / "page.tex").write_text(source, encoding="utf-8")
    options = ["-interaction=nonstopmode", "-halt-on-error", *(["-draftmode"] if draft else [])]
    command = ["pdflatex", *options, "page.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
    log = (folder / "page.log").read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, "\n".join(re.findall(r"^!.*(?:\n.*){0,6}", log, re.MULTILINE)) or log[-2000:]
    return log


def overfull(log: str, beyond: float = 10.0) -> list[tuple[float, int]]:
    """By how many points boxes stick out, and the line of the document by which they end."""
    found = re.findall(r"^Overfull \\hbox \(([\d.]+)pt too wide\)[^\d]*(?:\d+--)?(\d+)", log, re.MULTILINE)
    return [(float(points), int(line)) for points, line in found if float(points) > beyond]
