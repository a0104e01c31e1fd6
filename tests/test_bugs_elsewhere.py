"""Every block of the page on faults of other libraries runs, and holds."""

import re
from pathlib import Path

import pytest
import torch

PAGE = (Path(__file__).parent.parent / "docs" / "bugs-elsewhere.md").read_text(encoding="utf-8")
FAULTS = re.findall(r"^## (\d+\. .*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("title", "text"), FAULTS, ids=[title for title, _ in FAULTS])
def test_the_fault_is_not_made_here(title: str, text: str) -> None:
    torch.manual_seed(0)
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "assert " in block
    exec(compile(block, title, "exec"), {})  # noqa: S102


def test_there_are_ten_and_each_says_where_it_was_found() -> None:
    assert len(FAULTS) == 10
    for title, text in FAULTS:
        assert re.search(r"\]\(https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+\)", text), title
