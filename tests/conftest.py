"""What every test shares."""

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def bundled_weights(monkeypatch, tmp_path):
    """Tests are about the bundled weights, whatever the shell has chosen, and leave a person's progress alone; a pytest inside a test has no workers."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("BERTLAB_BERT", raising=False)
    monkeypatch.delenv("BERTLAB_SBERT", raising=False)
    monkeypatch.setenv("BERTLAB_PROGRESS", str(tmp_path / "progress.jsonl"))


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> Path:
    """A checkpoint with every head and the bundled tokenizer, one layer of width 8: it loads and answers in milliseconds. Do not change it."""
    import torch
    from transformers import BertConfig, BertForPreTraining

    from bertlab.checkpoints import bundled_folder

    folder, bundled = tmp_path_factory.mktemp("tiny"), bundled_folder("BERT")
    torch.manual_seed(0)
    size = json.loads((bundled / "config.json").read_text())["vocab_size"]
    BertForPreTraining(BertConfig(vocab_size=size, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bundled / name, folder)
    return folder
