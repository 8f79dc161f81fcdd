"""The weights behind bl.BERT: frozen, plain transformers files, and good enough to teach with.

tests/runs/score_model.py measures more, with the pretraining text; its figures are in scores.json beside the weights.
"""

import json
from pathlib import Path

import pytest
import torch
import transformers
from runs.score_model import cloze
from scipy.stats import spearmanr

import bertlab as bl
from bertlab import checkpoints

FOLDER = Path(checkpoints.bundled_folder("BERT"))
SHA256 = "b9c7656d90f690a0b455cdc715aa9972338b4899721a515237e29e57aad1e62c"  # these weights for good: no third version goes into the history


@pytest.fixture(scope="module")
def scores():
    return json.loads((FOLDER / "scores.json").read_text(encoding="utf-8"))


def test_the_weights_are_frozen():
    assert checkpoints.SHA256["BERT"] == SHA256  # bl.BERT verifies the file against it
    assert Path(bl.BERT) == FOLDER and (FOLDER / "model.safetensors").stat().st_size <= 50e6


@pytest.mark.parametrize("name", ["BertForPreTraining", "BertForMaskedLM", "BertForNextSentencePrediction", "BertModel"])
def test_loads_plainly(name):
    model, report = getattr(transformers, name).from_pretrained(bl.BERT, output_loading_info=True)
    assert not report["missing_keys"] and not report["mismatched_keys"]
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_cloze_probes(scores):
    """At least 100 probes of at most 4 answers, fixed before any training."""
    probes = [json.loads(line) for line in (Path(__file__).parent / "data" / "cloze.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(probes) >= 100 and all(1 <= len(p["answers"]) <= 4 and p["text"].count("[MASK]") == 1 for p in probes)
    found = cloze(bl.BERT)["all"]
    assert found["top5"] >= 0.60 and found["top1"] >= 0.35
    assert found["top5"] >= scores["stand-in"]["cloze"]["all"]["top5"] + 0.20
    assert found == pytest.approx(scores["bertlab-mini"]["cloze"]["all"], abs=0.016)  # two probes may fall differently on another CPU


def test_the_scores_on_held_out_text(scores):
    """What the stored measurement must show; it needs the pretraining text, so it is not repeated here."""
    new, old = (scores[name]["held_out"] for name in ("bertlab-mini", "stand-in"))
    assert new["books"]["perplexity"] <= 0.7 * old["books"]["perplexity"]
    assert new["all"]["nsp_same_source_balanced"] >= 0.78
    for kind, (accuracy, pairs) in new["all"]["nsp_by_kind"].items():
        assert pairs > 100 and 0 < accuracy <= 1 and kind in new["all"]["word_overlap_by_kind"]


def test_the_scores_on_similarity_are_those_of_these_weights(scores):
    for mode in ("cls", "mean", "max"):
        stored = scores["bertlab-mini"]["similarity"]["spearman"][mode]
        assert bl.evaluate_similarity(bl.similarity_pairs("test"), mode) == pytest.approx(stored, abs=0.005)


def test_the_controls_belong_to_these_weights():
    controls = json.loads((FOLDER / "controls.json").read_text(encoding="utf-8"))
    grades = [p.grade for p in bl.similarity_pairs("test")]
    for point in controls["points"]:
        for values in point["pooling"].values():
            assert spearmanr(values["cosines"], grades).statistic == pytest.approx(values["spearman"], abs=0.002)
    final = max((p for p in controls["points"] if p["arm"] == "MLM and NSP"), key=lambda p: p["tokens"])
    start = next(p for p in controls["points"] if p["tokens"] == 0)
    assert final["pooling"]["mean"]["spearman"] == pytest.approx(bl.evaluate_similarity(bl.similarity_pairs("test")), abs=0.005)
    assert start["pooling"]["mean"]["spearman"] == pytest.approx(bl.evaluate_similarity(bl.similarity_pairs("test"), model=bl.SBERT), abs=0.005)


def test_the_card_says_what_was_measured(scores):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in ("bertlab-mini", "stand-in"):
        own = scores[name]
        for value in (own["held_out"]["books"]["perplexity"], *(100 * own["cloze"]["all"][k] for k in ("top1", "top5"))):
            assert f"{value:.1f}" in card
    for name in ("bertlab-mini", "all-MiniLM-L6-v2"):
        for value in scores[name]["similarity"]["spearman"].values():
            assert f"{value:.2f}" in card
