"""Checkpoints that are damaged or hostile: a table of damages. Each is said in one sentence, and the repaired folder works at once."""

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import bertlab as bl
from bertlab import checkpoint_files, checkpoints

WEIGHTS = "model.safetensors"
LAYER = "bert.encoder.layer.0.output.dense.weight"


@pytest.fixture(scope="module")
def original(tiny_bert) -> Path:
    return tiny_bert


def use() -> tuple:
    """Everything that a checkpoint is for."""
    vectors = bl.encode("A cat sat.").hidden_states[-1]
    return vectors.tolist(), bl.predict_masked("A [MASK] sat.", top_k=2), bl.predict_next("It rained.", "We got wet.").is_next


# ---------------------------------------------------------------- the table


def tensors(folder, change) -> None:
    """Write the weights again after `change(tensors)`."""
    held = load_file(folder / WEIGHTS)
    change(held)
    save_file(held, folder / WEIGHTS, {"format": "pt"})


def header(folder, change) -> None:
    """Write the weights' header again after `change(header)`, which may return another one; the tensors stay."""
    file = (folder / WEIGHTS).read_bytes()
    (length,) = struct.unpack("<Q", file[:8])
    entries = json.loads(file[8 : 8 + length])
    new = json.dumps(change(entries) or entries).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(new)) + new + file[8 + length :])


def raw_header(folder, text: bytes, claims: int | None = None) -> None:
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text) if claims is None else claims) + text)


def entry(**changes):
    return lambda folder: header(folder, lambda h: h[LAYER].update(changes))


def shift(begin: int, end: int):
    """Move both ends of a tensor in the file."""

    def change(entries):
        offsets = entries[LAYER]["data_offsets"]
        entries[LAYER]["data_offsets"] = [offsets[0] + begin, offsets[1] + end]

    return lambda folder: header(folder, change)


def in_json(name: str, **changes):
    def damage(folder):
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps(content | changes), encoding="utf-8")

    return damage


def text_in(name: str, text: str):
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


def sparse(name: str, size: int):
    """A file of that many bytes which takes no place on the disk."""
    return lambda folder: os.truncate(folder / name, size)


def long_header(folder):
    raw_header(folder, b"{}", claims=checkpoint_files.HEADER + 1)
    os.truncate(folder / WEIGHTS, checkpoint_files.HEADER + 1_000_000)


def link_out(name: str):
    def damage(folder):
        outside = folder.parent / f"outside-{name}"
        shutil.move(folder / name, outside)
        (folder / name).symlink_to(outside)

    return damage


def shards(**weight_map: str):
    def damage(folder):
        (folder / WEIGHTS).rename(folder / "model-00001-of-00001.safetensors")
        (folder / checkpoint_files.INDEX).write_text(json.dumps({"weight_map": weight_map} if weight_map else {"metadata": {}}))

    return damage


def custom_code(*files: str, model_type: str = "evil"):
    """Code of the checkpoint's own: if it ran, a file would appear."""

    def damage(folder):
        (folder / "evil.py").write_text(f"open({str(folder / 'it-ran')!r}, 'w')\nclass Evil: pass\n")
        for name, kinds in {"config.json": ("AutoConfig", "AutoModel", "AutoModelForMaskedLM"), "tokenizer_config.json": ("AutoTokenizer",)}.items():
            if name in files:
                kind = {"model_type": model_type} if name == "config.json" else {"tokenizer_class": "EvilTokenizer"}
                in_json(name, auto_map={kind: "evil.Evil" for kind in kinds}, **kind)(folder)

    return damage


def drop_tokens(folder):
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"] |= {f"extra{n}": 40_000 + n for n in range(50_000)}
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


BOMB = "[" * 200_000 + "]" * 200_000
NEST = '{"a":' * 200_000 + "1" + "}" * 200_000

DAMAGES = {
    # the weights' file
    "cut in the middle": (lambda f: os.truncate(f / WEIGHTS, (f / WEIGHTS).stat().st_size // 2), "is damaged"),
    "cut by one byte": (lambda f: os.truncate(f / WEIGHTS, (f / WEIGHTS).stat().st_size - 1), "bytes, but"),
    "bytes behind the tensors": (lambda f: (f / WEIGHTS).open("ab").write(b"x"), "bytes, but"),
    "no bytes": (lambda f: (f / WEIGHTS).write_bytes(b""), "is damaged"),
    "seven bytes": (lambda f: (f / WEIGHTS).write_bytes(b"1234567"), "is damaged"),
    "no safetensors at all": (lambda f: (f / WEIGHTS).write_bytes(pickle.dumps({"a": 1})), "is damaged"),
    "header of 4 GB claimed": (lambda f: raw_header(f, b"{}", claims=1 << 32), "longer than the file"),
    "header of 2**64 - 1 claimed": (lambda f: raw_header(f, b"{}", claims=2**64 - 1), "longer than the file"),
    "header of 20 MB": (long_header, "its header has"),
    "header is a bomb of brackets": (lambda f: raw_header(f, BOMB.encode()), "nested too deeply"),
    "header is a bomb of objects": (lambda f: raw_header(f, NEST.encode()), "nested too deeply"),
    "header is a list": (lambda f: header(f, lambda h: [h]), "no object"),
    "header is empty": (lambda f: raw_header(f, b"{}"), "no tensor"),
    "header is no UTF-8": (lambda f: raw_header(f, b"\xff\xfe{}"), "is damaged"),
    "header has a huge number": (lambda f: raw_header(f, b'{"a": ' + b"9" * 10_000 + b"}"), "is damaged"),
    # the entries of its header
    "entry is a number": (lambda f: header(f, lambda h: {**h, LAYER: 3}), "makes no sense"),
    "entry without offsets": (lambda f: header(f, lambda h: h[LAYER].pop("data_offsets") and None), "makes no sense"),
    "unknown type of numbers": (entry(dtype="F12"), "makes no sense"),
    "another type of numbers": (entry(dtype="F16"), "makes no sense"),
    "shape that does not fit": (entry(shape=[8, 9]), "makes no sense"),
    "negative shape": (entry(shape=[-8, -8]), "makes no sense"),
    "huge shape": (entry(shape=[1 << 62, 1 << 62]), "makes no sense"),
    "shape is a text": (entry(shape="88"), "makes no sense"),
    "offsets far beyond the file": (shift(1 << 40, 1 << 40), "gap"),
    "offsets that overlap": (shift(-4, -4), "overlaps|gap"),
    "offsets with a gap": (shift(4, 4), "overlaps|gap"),
    "negative offsets": (shift(-(1 << 40), -(1 << 40)), "makes no sense"),
    "offsets the wrong way round": (shift(1000, -1000), "makes no sense"),
    # the tensors
    "wrong shape": (lambda f: tensors(f, lambda t: t.update({LAYER: np.zeros((8, 9), np.float32)})), "cannot be loaded"),
    "missing tensor": (lambda f: tensors(f, lambda t: t.pop(LAYER)), "lacks 1 tensors, such as bert.encoder.layer.0.output.dense.weight"),
    "missing part of a head": (lambda f: tensors(f, lambda t: t.pop("cls.predictions.transform.dense.weight")), "lacks 1 tensors"),
    "half of the NSP head": (lambda f: tensors(f, lambda t: t.pop("cls.seq_relationship.bias")), "lacks 1 tensors"),
    "missing NSP head": (lambda f: tensors(f, lambda t: [t.pop(n) for n in list(t) if "seq_relationship" in n]), "has no NSP head"),
    "missing MLM head": (lambda f: tensors(f, lambda t: [t.pop(n) for n in list(t) if "cls.predictions" in n]), "has no MLM head"),
    "only another tensor": (lambda f: tensors(f, lambda t: (t.clear(), t.update(x=np.zeros(3, np.float32)))), "lacks|cannot be loaded|more than its weights|has no"),
    "NaN": (lambda f: tensors(f, lambda t: t[LAYER].__setitem__((0, 0), np.nan)), "not finite, in bert.encoder.layer.0"),
    "infinity": (lambda f: tensors(f, lambda t: t["cls.predictions.bias"].__setitem__(5, -np.inf)), "not finite"),
    "pickle alone": (lambda f: (f / WEIGHTS).rename(f / "pytorch_model.bin"), "pickled weights"),
    "weights are a folder": (lambda f: ((f / WEIGHTS).unlink(), (f / WEIGHTS).mkdir()), "is damaged"),
    # weights in several files
    "index names a file outside": (shards(x="../outside.safetensors"), "no safetensors file of its folder"),
    "index names an absolute file": (shards(x="/tmp/outside.safetensors"), "no safetensors file of its folder"),
    "index names a pickle": (shards(x="pytorch_model.bin"), "no safetensors file of its folder"),
    "index names a file that is missing": (shards(x="model-00002-of-00002.safetensors"), "which its index names"),
    "index without a map": (shards(), "has no weight_map"),
    "index is a bomb": (lambda f: (shards(x="y")(f), (f / checkpoint_files.INDEX).write_text(NEST)), "nested too deeply"),
    # the configuration
    "config is a bomb": (text_in("config.json", NEST), "nested too deeply"),
    "config is a list": (text_in("config.json", "[1]"), "holds a list"),
    "config is cut": (text_in("config.json", '{"model_type": "be'), "cannot be read"),
    "config of 1 GB": (sparse("config.json", 1_000_000_000), "too many"),
    "config is no UTF-8": (lambda f: (f / "config.json").write_bytes(b"\xff\xff"), "cannot be read"),
    "model_type is a number": (in_json("config.json", model_type=3), "names no model_type"),
    "model_type is unknown": (in_json("config.json", model_type="nobody-knows"), "cannot be loaded"),
    "a thousand million layers": (in_json("config.json", num_hidden_layers=10**9), "more than its weights"),
    "infinitely many layers": (in_json("config.json", num_hidden_layers=float("inf")), "more than its weights"),
    "2 layers instead of 1": (in_json("config.json", num_hidden_layers=2), "lacks 16 tensors"),
    "half a layer": (in_json("config.json", num_hidden_layers=0.5), "cannot be loaded"),
    "a terabyte of positions": (in_json("config.json", max_position_embeddings=10**12), "more than its weights"),
    "more positions than weights": (in_json("config.json", max_position_embeddings=9_999_999), "cannot be loaded"),
    "width is negative": (in_json("config.json", hidden_size=-8), "cannot be loaded"),
    "width is zero": (in_json("config.json", hidden_size=0), "cannot be loaded"),
    "width is a text": (in_json("config.json", hidden_size="eight"), "cannot be loaded"),
    "no heads": (in_json("config.json", num_attention_heads=0), "cannot be loaded"),
    "unknown activation": (in_json("config.json", hidden_act="explode"), "cannot be loaded"),
    "quantised by a package that is not here": (in_json("config.json", quantization_config={"quant_method": "gptq", "bits": 4}), "cannot be loaded"),
    "an adapter": (text_in("adapter_config.json", '{"base_model_name_or_path": "/elsewhere"}'), "holds an adapter"),
    # the tokenizer
    "tokenizer is a bomb": (text_in("tokenizer.json", NEST), "nested too deeply"),
    "tokenizer is empty": (text_in("tokenizer.json", ""), "is empty"),
    "tokenizer of 1 GB": (sparse("tokenizer.json", 1_000_000_000), "too many"),
    "tokenizer is cut": (text_in("tokenizer.json", '{"model": '), "cannot be read"),
    "tokenizer without a model": (text_in("tokenizer.json", '{"version": "1.0"}'), "cannot be loaded"),
    "tokenizer's settings are a bomb": (text_in("tokenizer_config.json", NEST), "nested too deeply"),
    "tokenizer's settings are a list": (text_in("tokenizer_config.json", "[]"), "holds a list"),
    "special tokens are a bomb": (text_in("special_tokens_map.json", BOMB), "nested too deeply"),
    "tokenizer's settings name a file outside": (in_json("tokenizer_config.json", fast_tokenizer_files=["../tokenizer.4.0.json"]), "no file of its folder"),
    "another model's tokenizer": (drop_tokens, "do not belong together"),
    "vocabulary without a padding token": (in_json("tokenizer_config.json", pad_token=None), "padding token"),
    # code, and links
    "code for the model": (custom_code("config.json"), "wants code of its own"),
    "code for a known model": (custom_code("config.json", model_type="bert"), "wants code of its own"),
    "code for the tokenizer": (custom_code("tokenizer_config.json", "config.json"), "wants code of its own"),
    "weights are a link out": (link_out(WEIGHTS), "link to a file outside"),
    "config is a link out": (link_out("config.json"), "link to a file outside"),
    "tokenizer is a link out": (link_out("tokenizer.json"), "link to a file outside"),
    "weights are a broken link": (lambda f: ((f / WEIGHTS).unlink(), (f / WEIGHTS).symlink_to("nowhere")), "is damaged|holds no model"),
    "weights are a link to themselves": (lambda f: ((f / WEIGHTS).unlink(), (f / WEIGHTS).symlink_to(WEIGHTS)), "damaged|link"),
}


@pytest.fixture(scope="module")
def right(original):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERTLAB_BERT", str(original))
        return use()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_is_said_and_the_repaired_folder_works(damage, original, right, tmp_path, monkeypatch):
    change, words = DAMAGES[damage]
    folder = Path(shutil.copytree(original, tmp_path / "copy"))
    monkeypatch.setenv("BERTLAB_BERT", str(folder))
    change(folder)
    with pytest.raises(bl.CheckpointError, match=words) as error:
        use()
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    assert not (folder / "it-ran").exists()
    shutil.rmtree(folder)
    shutil.copytree(original, folder)
    assert use() == right


def test_a_pickle_beside_the_weights_is_not_opened(original, right, tmp_path, monkeypatch):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "it-ran"), "w")

    folder = Path(shutil.copytree(original, tmp_path / "copy"))
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    (folder / "training.pt").write_bytes(pickle.dumps(Evil()))
    monkeypatch.setenv("BERTLAB_BERT", str(folder))
    assert use() == right and not (tmp_path / "it-ran").exists()


def test_links_inside_a_folder_and_to_a_folder_are_followed(original, right, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(original, tmp_path / "copy"))
    (folder / "config.json").rename(folder / "old.json")
    (folder / "config.json").symlink_to("old.json")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.setenv("BERTLAB_BERT", str(tmp_path / "link"))
    assert use() == right


def test_weights_in_several_files_load(original, right, tmp_path, monkeypatch):
    from transformers import BertForPreTraining

    folder = Path(shutil.copytree(original, tmp_path / "copy"))
    (folder / WEIGHTS).unlink()
    BertForPreTraining.from_pretrained(original).save_pretrained(folder, max_shard_size="500KB")
    assert (folder / checkpoint_files.INDEX).is_file()
    monkeypatch.setenv("BERTLAB_BERT", str(folder))
    assert use() == right


def test_another_model_in_the_same_folder_is_noticed(original, right, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(original, tmp_path / "copy"))
    monkeypatch.setenv("BERTLAB_BERT", str(folder))
    assert use() == right
    tensors(folder, lambda t: t[LAYER].__iadd__(np.float32(1)))
    assert use() != right


def test_the_bundled_file_is_hashed_once_and_again_when_it_changes(tmp_path, monkeypatch):
    folder = Path(shutil.copytree(checkpoints.bundled_folder("BERT"), tmp_path / "copy"))
    monkeypatch.setattr(checkpoints, "bundled_folder", lambda name: folder)
    hashed, digest = [], checkpoints.hashlib.file_digest
    monkeypatch.setattr(checkpoints.hashlib, "file_digest", lambda stream, kind: hashed.append(stream.name) or digest(stream, kind))
    assert bl.BERT == bl.BERT == str(folder) and len(hashed) == 1
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for _ in range(2):
        with pytest.raises(bl.CheckpointError, match="not the file that bertlab was tested with"):
            bl.BERT
    (folder / WEIGHTS).write_bytes(whole)
    assert bl.BERT == str(folder)


ALONE = """
import os, resource, sys, time
import torch, transformers, bertlab as bl, bertlab.tokens, bertlab.mlm, bertlab.nsp
from transformers import BertForPreTraining, AutoTokenizer
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
try:
    bl.encode("A cat sat."), bl.predict_masked("A [MASK] sat."), bl.predict_next("It rained.", "We got wet.")
    said = "nothing"
except bl.CheckpointError:
    said = "CheckpointError"
print(said, round(time.perf_counter() - began, 2), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.soak
def test_every_damage_costs_little_memory_and_time(original, tmp_path):
    """A fresh process for each."""
    worst = {}
    for number, (damage, (change, _)) in enumerate(DAMAGES.items()):
        folder = Path(shutil.copytree(original, tmp_path / str(number) / "copy"))
        change(folder)
        result = subprocess.run([sys.executable, "-c", ALONE], env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "BERTLAB_BERT": str(folder)}, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, (damage, result.stderr[-2000:])
        said, seconds, megabytes = result.stdout.split()
        assert said == "CheckpointError" and float(seconds) < 20 and int(megabytes) < 500, (damage, result.stdout)
        worst[damage] = (int(megabytes), float(seconds))
    print(f"\n{len(worst)} damages; most memory {max(worst.items(), key=lambda item: item[1])}; longest {max(worst.items(), key=lambda item: item[1][1])}")
