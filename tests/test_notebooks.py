"""The notebooks run from top to bottom, in a process that has nothing but the library."""

import ast
import json
from pathlib import Path

import matplotlib
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "docs" / "notebooks").glob("*.ipynb"))


def test_there_are_three():
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(matplotlib, "rcParams", matplotlib.rcParams.copy())
    matplotlib.use("agg")
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert "find_spec" in "".join(code[0]["source"])
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    namespace: dict = {}
    for number, cell in enumerate(code):
        source = "".join(cell["source"])
        ast.parse(source)
        exec(compile(source, f"{notebook.name}[{number}]", "exec"), namespace)
    import matplotlib.pyplot as plt

    assert plt.get_fignums()
    plt.close("all")
