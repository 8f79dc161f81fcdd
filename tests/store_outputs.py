"""Execute notebooks from a clean kernel and store their outputs: what nbval later compares with.

    python tests/store_outputs.py            every notebook
    python tests/store_outputs.py 03 04      those whose names begin so

Cells tagged `hub` need a network: they are not executed and keep no output. The bundled weights are used
whatever BERTLAB_BERT says. If a cell raises, its notebook stays as it was and the exit status is 1.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
NO_SLIDES = ("Exercises", "Going further", "Further reading")  # sections for one's own screen
NOISE = ("ExecuteTime", "collapsed", "execution", "scrolled", "trusted", "widgets")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  # names a live model; without it text/html is shown


def store(path: Path) -> None:
    """Execute one notebook in its own folder and write it back; raises CellExecutionError if a cell does."""
    notebook = normalise(nbformat.v4.reads(path.read_text(encoding="utf-8")), path.stem)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        skip_cells_with_tag="hub",
    )
    client.execute(env=environment())
    normalise(notebook, path.stem)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def environment() -> dict[str, str]:
    """The kernel's environment: no network, the bundled weights, torch's own number of threads, nobody's progress."""
    unset = ("OMP_NUM_THREADS", "BERTLAB_BERT", "BERTLAB_SBERT")
    return {**{name: value for name, value in os.environ.items() if name not in unset}, "HF_HUB_OFFLINE": "1", "BERTLAB_PROGRESS": os.devnull}


def normalise(notebook: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    """Format 4.5 without anything that changes from run to run; cells keep their ids, new ones get `name-number`."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    ids: set[str] = set()
    section = ""
    for number, cell in enumerate(notebook.cells):
        if not cell.get("id") or cell.id in ids:
            cell.id = next(i for i in (f"{name}-{n}"[-64:] for n in range(number, 10_000)) if i not in ids)
        ids.add(cell.id)
        for key in NOISE:
            cell.metadata.pop(key, None)
        section = next((line for line in cell.source.splitlines() if cell.cell_type == "markdown" and line.startswith("## ")), section)
        cell.metadata["slideshow"] = nbformat.from_dict({"slide_type": slide_type(cell, section)})
        if cell.cell_type != "code":
            continue
        if "hub" in cell.metadata.get("tags", []):
            cell.execution_count, cell.outputs = None, []
        for output in cell.outputs:
            output.get("data", {}).pop(WIDGET_VIEW, None)
    return notebook


def slide_type(cell: nbformat.NotebookNode, section: str) -> str:
    """A cell's place in the slides: sections go to the right, their cells downwards, and an explanation appears under what it explains."""
    if section.removeprefix("## ") in NO_SLIDES or set(cell.metadata.get("tags", [])) & {"hub", "versions"}:
        return "skip"
    if cell.cell_type == "markdown" and cell.source.startswith(("# ", "## ")):
        return "slide"
    return "fragment" if cell.cell_type == "markdown" and cell.source.startswith("**What happened") else "subslide"


def main(names: list[str]) -> int:
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    if unknown := [name for name in names if not any(path.name.startswith(name) for path in paths)]:
        print(f"No notebook begins with {', '.join(unknown)}; there are {', '.join(path.stem for path in paths)}.", file=sys.stderr)
        return 1
    failed = []
    for path in paths:
        if names and not path.name.startswith(tuple(names)):
            continue
        began = time.monotonic()
        try:
            store(path)
        except CellExecutionError as error:
            print(f"{path.name}: FAILED, not stored\n{error}", file=sys.stderr)
            failed.append(path.name)
        else:
            print(f"{path.name}: stored ({time.monotonic() - began:.0f} s)", flush=True)
    if failed:
        print(f"Not stored: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
