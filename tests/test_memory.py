"""Memory: what a kernel may use, what a learner reads beyond it, and the weights that all kernels share."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bertlab import checkpoints, cli, memory
from bertlab.bench.memory import GIB, Group
from bertlab.checkpoints import CheckpointError

linux = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")


# ---------------------------------------------------------------- the limit


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Makes control groups in a folder of the test's: {path: (limit, in use, of that files)}."""

    def make(version: int, own: str, **limits: tuple) -> None:
        top = tmp_path / "memory" if version == 1 else tmp_path
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
        for path, (most, used, files) in limits.items():
            folder = top / path.replace("_", "/").strip("/")
            folder.mkdir(parents=True, exist_ok=True)
            for name, value in zip(names, (most, used)):
                (folder / name).write_text(f"{value}\n")
            prefix = "total_" if version == 1 else ""
            (folder / "memory.stat").write_text(f"anon 1\n{prefix}active_file {files}\n{prefix}inactive_file 0\n")
        lines = f"4:memory:/{own}\n2:cpu:/\n" if version == 1 else f"0::/{own}\n"
        real = Path.read_text
        monkeypatch.setattr(Path, "read_text", lambda self, *a, **k: lines if str(self) == "/proc/self/cgroup" else real(self, *a, **k))

    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    monkeypatch.delenv("MEM_LIMIT", raising=False)
    return make


@linux
@pytest.mark.parametrize("version", [1, 2])
def test_the_smallest_limit_above_this_process_counts_and_files_pages_can_be_dropped(groups, version):
    groups(version, "hub/learner", hub=(3 * 2**28, 2**28, 2**27), hub_learner=(2**30, 2**28, 0))
    assert memory.limit() == 3 * 2**28
    assert memory.left() == 3 * 2**28 - 2**28 + 2**27


@linux
def test_no_limit_is_none(groups):
    groups(2, "learner", learner=("max", 2**28, 0))
    assert memory.limit() is None and memory.left() is None
    groups(1, "learner", learner=(2**63 - 4096, 2**28, 0))
    assert memory.limit() is None


@linux
def test_in_a_container_only_the_top_folder_is_there(groups):
    groups(1, "docker/0123", **{"_": (2**30, 2**28, 0)})
    assert memory.limit() == 2**30 and memory.left() == 2**30 - 2**28


@linux
def test_the_hubs_own_word_counts_too(groups, monkeypatch):
    groups(2, "learner", learner=("max", 2**28, 0))
    monkeypatch.setenv("MEM_LIMIT", str(4 * 2**30))
    assert memory.limit() in (4 * 2**30, None)  # None on a machine that has less
    monkeypatch.setenv("MEM_LIMIT", "1")
    assert memory.limit() == 1 and memory.left() == 0
    for nonsense in ("1G", "", "0", "-5"):
        monkeypatch.setenv("MEM_LIMIT", nonsense)
        assert memory.limit() is None


@linux
def test_the_doctor_counts_what_is_left_of_the_limit(groups):
    groups(2, "learner", learner=(2**29, 2**28, 0))
    assert cli.free_memory() <= 2**28
    (check,) = cli._check_memory()
    assert check.status == "FAIL" and "close other programs" in check.advice


# ---------------------------------------------------------------- beyond it


@linux
def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(groups, tiny_bert, tmp_path):
    """Weights of another type than float32 take memory of their own."""
    from transformers import BertForPreTraining

    half = str(Path(shutil.copytree(tiny_bert, tmp_path / "half")))
    BertForPreTraining.from_pretrained(tiny_bert).half().save_pretrained(half)
    groups(2, "learner", learner=(2**29, 2**29 - memory.RESERVE - 100, 0))
    with pytest.raises(MemoryError, match="half needs 1 MiB, and 0 MiB are left. There is not enough memory: .* 0.50 GiB"):
        checkpoints.load_model(half)
    checkpoints.load_model(str(tiny_bert))  # float32: its file is mapped


def test_what_the_libraries_say_of_a_lack_is_understood():
    with pytest.raises(RuntimeError) as torchs:
        torch.empty(2**55)
    assert memory.is_lack(torchs.value)
    with pytest.raises(MemoryError) as pythons:
        bytearray(2**62)
    assert memory.is_lack(pythons.value)
    wrapped = ValueError("x")
    wrapped.__cause__ = pythons.value
    assert memory.is_lack(wrapped)
    assert not memory.is_lack(RuntimeError("shapes do not fit")) and not memory.is_lack(None)


def test_a_lack_while_loading_is_no_damaged_checkpoint():
    assert isinstance(checkpoints._cannot_load("checkpoint", "here", RuntimeError("DefaultCPUAllocator: can't allocate memory")), MemoryError)
    assert isinstance(checkpoints._cannot_load("checkpoint", "here", RuntimeError("odd")), CheckpointError)


CELLS = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "bertlab")
for cell in ("import torch, bertlab as bl", "x = torch.ones(3 * 2**28)", "y = []\\nwhile True: y.append(bytearray(10_000_000))", "y = None\\nprint('goes on', bl.pool(torch.ones(1, 2, 3), torch.ones(1, 2)).shape)"):
    shell.run_cell(cell)
"""


def run_cells(**more) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", CELLS], capture_output=True, text=True, timeout=120, **more)


def check_said(done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stderr.count("There is not enough memory: all that runs here may use 0.80 GiB together") == 2
    assert "goes on torch.Size([1, 3])" in done.stdout


@linux
def test_beyond_a_hubs_limit_a_cell_reads_a_sentence_and_the_next_one_runs():
    """By MEM_LIMIT, which nothing enforces here: what stops the cells is the guard alone."""
    check_said(run_cells(env={**os.environ, "MEM_LIMIT": str(int(0.8 * GIB))}))


@linux
def test_beyond_a_real_control_groups_limit_too():
    """The kernel's own killer is armed here."""
    try:
        with Group.made(int(0.8 * GIB)) as group:
            environment = {name: value for name, value in os.environ.items() if name != "MEM_LIMIT"}
            check_said(run_cells(env=environment, preexec_fn=lambda: group.add(os.getpid())))
    except OSError as reason:
        pytest.skip(f"no control group can be made here: {reason}")


# ---------------------------------------------------------------- shared weights


@pytest.fixture
def bundled(tmp_path, monkeypatch, tiny_bert) -> Path:
    """A small checkpoint in float16 in the place of the bundled one."""
    from transformers import BertForPreTraining

    folder = tmp_path / "models" / "bertlab-mini"
    BertForPreTraining.from_pretrained(tiny_bert).half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float32"}))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_bert / name, folder)
    monkeypatch.setattr(checkpoints, "bundled_folder", lambda name: folder)
    return folder


def weights(folder: str) -> dict[str, torch.Tensor]:
    return checkpoints.load_model(folder, "mlm").state_dict()


def test_the_bundled_weights_are_mapped_from_a_float32_file_with_the_same_numbers(bundled):
    from transformers import BertForMaskedLM

    found, plain = weights(str(bundled)), BertForMaskedLM.from_pretrained(bundled).state_dict()
    assert Path(f"{bundled}-float32").is_dir()
    assert found.keys() >= plain.keys() and all(torch.equal(found[name], plain[name]) for name in plain)
    if sys.platform == "linux":
        assert f"{bundled}-float32/model.safetensors" in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("damage", ["another number", "cut short", "no configuration", "another configuration"])
def test_a_float32_file_that_is_not_the_same_is_made_again(bundled, damage):
    twin = Path(checkpoints.float32_folder(str(bundled)))
    good = (twin / "model.safetensors").read_bytes()
    if damage == "another number":
        (twin / "model.safetensors").write_bytes(good[:-3] + bytes([good[-3] ^ 1]) + good[-2:])
    elif damage == "cut short":
        (twin / "model.safetensors").write_bytes(good[:-100])
    elif damage == "no configuration":
        (twin / "config.json").unlink()
    else:
        (twin / "config.json").write_text("{}")
    assert checkpoints.float32_folder(str(bundled)) == str(twin)
    assert (twin / "model.safetensors").read_bytes() == good
    assert (twin / "config.json").read_bytes() == (bundled / "config.json").read_bytes()
    assert sorted(file.name for file in twin.iterdir()) == ["config.json", "model.safetensors"]


def test_where_no_file_can_be_written_the_bundled_one_is_loaded(bundled):
    Path(f"{bundled}-float32").write_text("a file where the folder would be")
    assert checkpoints.float32_folder(str(bundled)) == str(bundled)
    assert weights(str(bundled))["bert.embeddings.word_embeddings.weight"].dtype == torch.float32


def test_other_checkpoints_are_loaded_as_they_are(tiny_bert):
    assert checkpoints.float32_folder(str(tiny_bert)) == str(tiny_bert)
    assert not Path(f"{tiny_bert}-float32").exists()
