"""Run the notebooks under many conditions and compare their outputs strictly with the stored ones (nbval).

    python tests/runs/notebook_conditions.py                            every condition, every notebook
    python tests/runs/notebook_conditions.py 00 01 --only restart       one condition (several: say --only again), some notebooks
    python tests/runs/notebook_conditions.py --list                     the conditions

One notebook at a time, each in a fresh kernel. Every result goes at once into --results (JSON) with a table beside it (.md): an
interrupted run goes on where it was; --again repeats what is already there, and --failed only what failed. Cells that differ between
learners (tagged nbval-skip: versions, progress, hub) are not compared, nor are the pixels of pictures. Linux only; the conditions
with another user need root.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SLOW = ("05", "06", "07", "08", "09")  # they train models
OTHER_USER = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
OTHER_USER += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # may read where the interpreter lies, write nowhere
LONG = "x" * 200


@dataclasses.dataclass(frozen=True)
class Condition:
    """What is changed: environment variables, the folder of the checkout, how often, twice in one kernel, or another user."""

    about: str
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    folder: str | None = None
    runs: tuple[int, int] = (1, 1)  # of a quick notebook, of a slow one
    twice: bool = False
    other_user: bool = False


OLDEST = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "NEHALEM",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
}
READ_ONLY = {"HOME": "{home}", "JUPYTER_RUNTIME_DIR": "{temporary}/runtime"}  # nbval itself must write its connection file somewhere
CONDITIONS = {
    "restart": Condition("Restart and Run All, 10 times (the slow ones 3 times)", runs=(10, 3)),
    "twice": Condition("Run All twice in one kernel", twice=True),
    "oldest": Condition("every library as on a processor of 2008, all at once", OLDEST),
    "read-only": Condition("read-only checkout, another user, read-only home", READ_ONLY, folder="read-only", other_user=True),
    "no-home": Condition("read-only checkout, another user, a home that does not exist", {**READ_ONLY, "HOME": "/nonexistent"}, "no home", other_user=True),
    "spaces": Condition("a path with spaces", folder="a path with spaces"),
    "chinese": Condition("a path with Chinese characters", folder="语言模型课程 笔记本"),
    "long": Condition("a path longer than 200 characters", folder=LONG),
    "locale-C": Condition("locale C", {"LC_ALL": "C", "LANG": "C"}),
    "locale-zh": Condition("locale zh_CN.UTF-8", {"LC_ALL": "zh_CN.UTF-8", "LANG": "zh_CN.UTF-8", "LOCPATH": "{locales}"}),
    "threads-1": Condition("OMP_NUM_THREADS=1", {"OMP_NUM_THREADS": "1"}),
    "threads-2": Condition("OMP_NUM_THREADS=2", {"OMP_NUM_THREADS": "2"}),
    "torch-default": Condition("ATEN_CPU_CAPABILITY=default", {"ATEN_CPU_CAPABILITY": "default"}),
    "torch-avx2": Condition("ATEN_CPU_CAPABILITY=avx2", {"ATEN_CPU_CAPABILITY": "avx2"}),
    "mkl-compatible": Condition("MKL_CBWR=COMPATIBLE", {"MKL_CBWR": "COMPATIBLE"}),
    "onednn-sse41": Condition("ONEDNN_MAX_CPU_ISA=SSE41", {"ONEDNN_MAX_CPU_ISA": "SSE41", "DNNL_MAX_CPU_ISA": "SSE41"}),
    "openblas-nehalem": Condition("OPENBLAS_CORETYPE=NEHALEM, numpy without AVX2 and AVX512", {name: OLDEST[name] for name in ("OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES")}),
}


def checkout_copy(target: Path, read_only: bool) -> Path:
    """What git would commit, copied to `target`."""
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)
    if read_only:
        subprocess.run(["chmod", "-R", "a-w,a+rX", str(target)], check=True)
    return target


def doubled(notebook: Path) -> Path:
    """The notebook with all its cells a second time, beside it: each pass is compared with the stored outputs."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    content["cells"] += [{**cell, "id": f"again-{number}"} for number, cell in enumerate(content["cells"])]
    twice = notebook.with_stem(notebook.stem + "_twice")
    twice.write_text(json.dumps(content), encoding="utf-8")
    return twice


def chinese_locale(folder: Path) -> Path:
    """zh_CN.UTF-8 compiled into a folder of its own, for LOCPATH; without its sources the C library falls back to C."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["localedef", "-i", "zh_CN", "-f", "UTF-8", str(folder / "zh_CN.UTF-8")], capture_output=True)
    if not (folder / "zh_CN.UTF-8").is_dir():
        print("localedef could not make zh_CN.UTF-8: install the package `locales`; what runs now is the locale C.", file=sys.stderr)
    return folder


class Workplace:
    """Folders that the conditions need, made when first asked for, in one temporary folder."""

    def __init__(self, temporary: Path):
        self.temporary = temporary
        temporary.chmod(0o755)
        self.runtime = temporary / "runtime"
        self.runtime.mkdir()
        self.runtime.chmod(0o1777)
        self.home = temporary / "home"
        self.home.mkdir(mode=0o555)
        self.copies: dict[str, Path] = {}

    def root(self, condition: Condition) -> Path:
        """The checkout to run in: a copy where the condition asks for one or a notebook is added."""
        name = condition.folder or ("twice" if condition.twice else None)
        if name is None:
            return ROOT
        if name not in self.copies:
            self.copies[name] = checkout_copy(self.temporary / name, condition.other_user)
        return self.copies[name]

    def environment(self, condition: Condition, root: Path) -> dict[str, str]:
        places = {"home": self.home, "temporary": self.temporary, "locales": self.temporary / "locales"}
        if "LOCPATH" in condition.environment and not places["locales"].exists():
            chinese_locale(places["locales"])
        ours = {name: value for name, value in os.environ.items() if name not in ("BERTLAB_BERT", "BERTLAB_SBERT")}
        changed = {name: value.format(**places) for name, value in condition.environment.items()}
        return {**ours, "PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1", "BERTLAB_PROGRESS": os.devnull, **changed}


def run(condition: Condition, stem: str, place: Workplace) -> dict:
    """One strict nbval run: numbers of cells, seconds, and what pytest said of the cells that failed."""
    root = place.root(condition)
    notebook = root / "notebooks" / f"{stem}.ipynb"
    if condition.twice:
        notebook = doubled(notebook)
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "--nbval-cell-timeout=900", "-q", "-p", "no:cacheprovider"]
    command = [*(OTHER_USER if condition.other_user else []), *command, "-c", os.devnull, str(notebook)]
    began = time.monotonic()
    done = subprocess.run(command, cwd=root, env=place.environment(condition, root), capture_output=True, text=True, encoding="utf-8")
    last = (done.stdout.strip().splitlines() or [""])[-1]
    found = {name: int(number) for number, name in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    ok = done.returncode == 0 and found.get("passed", 0) > 0 and set(found) <= {"passed", "skipped"}
    return {"ok": ok, **found, "seconds": round(time.monotonic() - began, 1), "report": "" if ok else (done.stdout + done.stderr)[-20_000:]}


def table(results: list[dict]) -> str:
    """Conditions down, notebooks across: runs that passed of those made."""
    stems = sorted({r["notebook"] for r in results})
    lines = ["| condition | " + " | ".join(stem[:2] for stem in stems) + " |", "|---" * (len(stems) + 1) + "|"]
    for name, condition in CONDITIONS.items():
        cells = []
        for stem in stems:
            runs = [r["ok"] for r in results if (r["condition"], r["notebook"]) == (name, stem)]
            cells.append(f"{sum(runs)}/{len(runs)}" if runs else "-")
        if set(cells) != {"-"}:
            lines.append(f"| {name}: {condition.about} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def keep(results: list[dict], file: Path) -> None:
    """Write the results and their table whole or not at all."""
    for path, text in ((file, json.dumps(results, indent=1)), (file.with_suffix(".md"), table(results))):
        partial = path.with_suffix(path.suffix + ".partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", help="notebooks whose names begin so; every one if not given")
    parser.add_argument("--only", action="append", choices=CONDITIONS, metavar="CONDITION")
    parser.add_argument("--results", type=Path, default=Path("notebook_conditions.json"))
    parser.add_argument("--again", action="store_true", help="repeat what is already in the results")
    parser.add_argument("--failed", action="store_true", help="repeat what is in the results and failed")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args(argv)
    if options.list:
        print("\n".join(f"{name:18}{condition.about}" for name, condition in CONDITIONS.items()))
        return 0
    stems = [p.stem for p in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")) if not options.numbers or p.name.startswith(tuple(options.numbers))]
    results = json.loads(options.results.read_text(encoding="utf-8")) if options.results.exists() else []
    asked = [(name, stem, n) for name in options.only or CONDITIONS for stem in stems for n in range(CONDITIONS[name].runs[stem[:2] in SLOW])]
    with tempfile.TemporaryDirectory(prefix="conditions") as temporary:
        place = Workplace(Path(temporary))
        for key in asked:
            old = next((r for r in results if (r["condition"], r["notebook"], r["run"]) == key), None)
            if old and not options.again and (old["ok"] or not options.failed):
                continue
            new = dict(zip(("condition", "notebook", "run"), key)) | run(CONDITIONS[key[0]], key[1], place) | {"date": time.strftime("%Y-%m-%d")}
            results = [r for r in results if r is not old] + [new]
            keep(results, options.results)
            print(f"{key[0]:18}{key[1]:30}run {key[2] + 1:<3}{'identical' if new['ok'] else 'DIFFERS'} {new['seconds']:6.1f} s", flush=True)
    made = [r for r in results if (r["condition"], r["notebook"], r["run"]) in set(asked)]
    print(table(made))
    return 0 if all(r["ok"] for r in made) else 1


if __name__ == "__main__":
    sys.exit(main())
