"""A checkpoint's files: are they complete, of the right kind and harmless? Nothing here loads weights or runs code.

What a stranger wrote is read within limits: the sizes below, JSON that is not nested without end, names that stay in the folder.
The layout of a safetensors file: eight bytes with the header's length, a JSON header, then the tensors without gaps.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable
from functools import wraps
from pathlib import Path

HEADER = 20_000_000  # bytes of a safetensors header that are read; 1,000 tensors need about 100,000
JSON_FILE = 100_000_000  # bytes of a JSON file; the largest multilingual tokenizer.json has about 35,000,000
BITS = {"F4": 4, "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64}
LARGEST = 10_000_000  # the largest number that a configuration may hold
TOKENIZERS = ("tokenizer.json", "vocab.txt", "spiece.model", "vocab.json")
INDEX = "model.safetensors.index.json"


class CheckpointError(Exception):
    """Weights are missing, damaged or of the wrong kind; the message says what to do."""


def stamp(folder: str | Path) -> tuple:
    """What changes when a file of the folder does: (name, bytes, time of the last change) of each."""
    try:
        return tuple((f.name, s.st_size, s.st_mtime_ns) for f in sorted(Path(folder).iterdir()) if f.is_file() for s in (f.stat(),))
    except OSError:
        return ()


def remembered(load: Callable) -> Callable:
    """Keep what `load(folder, *rest)` returns until a file in the folder changes; a failure is not kept."""
    kept: dict[tuple, tuple] = {}

    @wraps(load)
    def again(folder: str, *rest, **named):
        key, now = (str(folder), *rest, *named.values()), stamp(folder)
        if kept.get(key, (None, None))[0] != now:
            kept[key] = (now, load(folder, *rest, **named))
        return kept[key][1]

    return again


@remembered
def check_folder(folder: str | Path) -> None:
    """Raise CheckpointError unless `folder` holds a configuration, safetensors weights and a tokenizer, all of them readable."""
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
    if not any((folder / file).is_file() for file in TOKENIZERS):
        raise CheckpointError(f"{folder} holds no tokenizer (tokenizer.json or vocab.txt): save it there with tokenizer.save_pretrained(folder).")
    _check_vocabulary(folder)
    _check_sizes(folder, config_of(folder), tensor_names(folder))
    _check_shards(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        if (folder / name).is_file():
            _check_names(folder / name, read_json(folder / name))
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file() and read_json(folder / name).get("auto_map"):  # Python classes that come with the weights
            raise CheckpointError(
                f"{folder} wants code of its own to be run (auto_map in {name}), and bertlab runs none that comes with weights: "
                "choose a checkpoint of an architecture that transformers has, such as bert-base-uncased."
            )
    if (folder / "adapter_config.json").exists():  # it may send transformers to another model
        raise CheckpointError(f"{folder} holds an adapter (adapter_config.json): merge it into its model and save that with save_pretrained.")


def check_links(folder: str | Path) -> None:
    """Raise CheckpointError for a file that is a link out of the folder; the Hub's cache may link to its own blobs.

    A folder from somewhere else could so have any file of this machine read as if it were its own.
    """
    folder = Path(folder).resolve()
    in_cache = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")
    allowed = folder.parents[2] if in_cache else folder
    for file in folder.iterdir():
        if file.is_symlink() and not (real := Path(os.path.realpath(file))).is_relative_to(allowed):  # Path.resolve fails on a link to itself
            raise CheckpointError(f"{file} is a link to a file outside of its folder ({real}): copy that file into the folder instead.")


def read_json(file: Path) -> dict:
    """The object in a JSON file; CheckpointError if it cannot be read, is too long, is nested too deeply or is no object."""
    try:
        if (size := file.stat().st_size) > JSON_FILE:
            raise ValueError(f"{size:,} bytes are too many")
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}, not an object")
    except RecursionError:
        raise CheckpointError(f"{file} cannot be read (it is nested too deeply): copy or download the checkpoint again.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"{file} cannot be read ({reason}): copy or download the checkpoint again.") from None
    return found


def config_of(folder: Path) -> dict:
    """What config.json says; CheckpointError unless it names a model_type."""
    config = read_json(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise CheckpointError(f"{folder / 'config.json'} names no model_type: is this a transformers checkpoint?")
    return config


def tensor_names(folder: Path) -> tuple[str, ...]:
    """The tensors' names from the header of each safetensors file; CheckpointError if one is damaged or cut short."""
    names: list[str] = []
    for file in sorted(folder.glob("*.safetensors")):
        try:
            names += _read_header(file)
        except RecursionError:
            raise CheckpointError(f"{file} is damaged (its header is nested too deeply): copy or download the checkpoint again.") from None
        except (OSError, ValueError, TypeError, struct.error) as error:
            raise CheckpointError(f"{file} is damaged ({error}): copy or download the checkpoint again.") from None
    return tuple(names)


def converted_bytes(folder: Path) -> int:
    """The bytes that a float32 model takes for those of its weights that are stored in another type; the others stay in their file's pages."""
    total = 0
    for file in folder.glob("*.safetensors"):
        entries = _read_header(file).values()
        total += 4 * sum(math.prod(entry["shape"]) for entry in entries if entry["dtype"] != "F32")
    return total


def _read_header(file: Path) -> dict[str, dict]:
    """The entries of one file by name, whose tensors must fill it exactly; ValueError says what is wrong."""
    size = file.stat().st_size
    with open(file, "rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > size - 8:
            raise ValueError("its header is longer than the file")
        if length > HEADER:
            raise ValueError(f"its header has {length:,} bytes")
        header = json.loads(stream.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if not tensors:
        raise ValueError("it holds no tensor")
    at = 0
    for name, entry in sorted(tensors.items(), key=lambda item: _span(*item)):
        begin, end = _span(name, entry)
        if begin != at:
            raise ValueError(f"the tensor {name:.80} {'overlaps another' if begin < at else 'leaves a gap before it'}")
        at = end
    if at != size - 8 - length:
        raise ValueError(f"its tensors need {at:,} bytes, but {size - 8 - length:,} are there")
    return tensors


def _span(name: str, entry: dict) -> tuple[int, int]:
    """Where a tensor lies, (first byte, last byte + 1) behind the header; ValueError unless that fits its shape and type."""
    try:
        (begin, end), shape, bits = entry["data_offsets"], entry["shape"], BITS.get(entry["dtype"], 8 if entry["dtype"].startswith("F8") else 0)
        sound = all(type(n) is int and n >= 0 for n in (begin, end, *shape)) and (end - begin) * 8 == math.prod(shape) * bits and bits
    except (KeyError, TypeError, ValueError, AttributeError):
        sound = False
    if not sound:
        raise ValueError(f"the entry of the tensor {name:.80} makes no sense")
    return begin, end


def _check_vocabulary(folder: Path) -> None:
    """A tokenizer file without any content would give a tokenizer without any word."""
    for name in TOKENIZERS:
        if (folder / name).is_file() and not (folder / name).stat().st_size:
            raise CheckpointError(f"{folder / name} is empty: copy or download the checkpoint again.")


def _check_sizes(folder: Path, config: dict, tensors: tuple[str, ...]) -> None:
    """Numbers that would have transformers build a model without end."""
    for name, value in config.items():
        most = max(1000, len(tensors)) if "layers" in name else LARGEST
        if type(value) in (int, float) and not abs(value) <= most:
            raise CheckpointError(f"{folder / 'config.json'} says {name} = {value}, more than its weights can have: copy or download the checkpoint again.")


def _check_shards(folder: Path) -> None:
    """Weights in several files: every file that the index names must lie in the folder."""
    if not (folder / INDEX).is_file() or (folder / "model.safetensors").is_file():  # transformers then does not read the index
        return
    shards = read_json(folder / INDEX).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise CheckpointError(f"{folder / INDEX} has no weight_map: copy or download the checkpoint again.")
    for name in sorted(set(shards.values())):
        if not name.endswith(".safetensors") or Path(name).name != name or "\\" in name:
            raise CheckpointError(f"{folder / INDEX} names {name!r:.80}, which is no safetensors file of its folder: do not use this checkpoint.")
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} holds no {name}, which its index names: the download or copy is not complete.")


def _check_names(file: Path, content: dict) -> None:
    """Files that a tokenizer's configuration has transformers open must lie in the folder."""
    for name in content.get("fast_tokenizer_files") or ():
        if not isinstance(name, str) or Path(name).name != name or "\\" in name:
            raise CheckpointError(f"{file} names {name!r:.80}, which is no file of its folder: do not use this checkpoint.")
