"""Siamese training learns and agrees with sentence-transformers; intervals, the similarity map and the stored results."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from scipy.stats import spearmanr
from transformers import BertConfig, BertModel

import bertlab as bl
from bertlab.checkpoints import load_tokenizer
from bertlab.datasets import NliTriple, SimilarityPair, nli
from bertlab.fine_tuning import FitOptions
from bertlab.sbert import LOSSES, anisotropy, flat_map, graded, pair_cosines, recast, sentence_vectors, siamese, spearman_interval, train_siamese, with_pooling
from bertlab.widgets import SimilarityMap
from bertlab.widgets.similarity_map import clip, compare_sentences, place_labels, render_similarities

RESULTS = Path(__file__).parent.parent / "data" / "results" / "sbert.json"
TEXTS = ["A cat sat on the mat.", "Rain fell on the roof all night, and nobody slept.", "Yes."]
TRIPLE = NliTriple("It rained.", "It was wet.", "It was cold.", "It was dry.")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a tiny random encoder and bl.BERT's tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    BertModel(BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)).save_pretrained(folder)
    load_tokenizer(bl.BERT).save_pretrained(folder)
    return str(folder)


# ---------------------------------------------------------------- the siamese network


@pytest.mark.parametrize("mode", ["cls", "mean", "max"])
def test_siamese_is_encode_and_pool(mode):
    torch.testing.assert_close(siamese(bl.BERT, mode).encode(TEXTS, convert_to_tensor=True), sentence_vectors(TEXTS, mode), atol=1e-4, rtol=1e-4)


def test_with_pooling_reads_the_same_encoder(tiny):
    model = siamese(tiny)
    other = with_pooling(model, "cls")
    assert other[0] is model[0] and other[1].pooling_mode == "cls"
    torch.testing.assert_close(other.encode(TEXTS, convert_to_tensor=True), sentence_vectors(TEXTS, "cls", model=tiny), atol=1e-5, rtol=1e-5)


def test_pair_cosines_are_those_of_the_vectors(tiny):
    pairs = [SimilarityPair(TEXTS[0], TEXTS[1], 1.0, "ordinary"), SimilarityPair(TEXTS[2], TEXTS[2], 5.0, "ordinary")]
    first, second = pair_cosines(siamese(tiny), pairs)
    assert second == pytest.approx(1, abs=1e-5)
    assert first == pytest.approx(float(bl.cosine(*sentence_vectors(TEXTS[:2], model=tiny))), abs=1e-5)


# ---------------------------------------------------------------- what each loss is fed with


def test_one_set_recast_for_each_loss():
    assert recast([TRIPLE], "softmax") == [("It rained.", "It was wet.", 0), ("It rained.", "It was cold.", 1), ("It rained.", "It was dry.", 2)]
    assert recast([TRIPLE], "contrastive") == [("It rained.", "It was wet.", 1), ("It rained.", "It was dry.", 0)]
    assert [pair[:2] for pair in recast([TRIPLE], "ranking")] == [("It rained.", "It was wet.")]
    triples = nli("train")
    assert [len(recast(triples, loss)) for loss in ("softmax", "contrastive", "ranking")] == [3 * len(triples), 2 * len(triples), len(triples)]
    with pytest.raises(ValueError, match="graded"):
        recast([TRIPLE], "cosine")


def test_graded_pairs_become_targets_from_0_to_1():
    targets = [target for _, _, target in graded(bl.similarity_pairs("train"))]
    assert min(targets) == 0 and max(targets) == 1 and all(isinstance(target, float) for target in targets)


def by_hand(loss: str, u: torch.Tensor, v: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The formulas of notebook 08, section 7."""
    cosines = bl.cosine(u, v)
    if loss == "contrastive":
        distance = 1 - cosines
        return (0.5 * torch.where(labels == 1, distance**2, (0.5 - distance).clamp(min=0) ** 2)).mean()
    if loss == "ranking":
        scores = 20 * torch.nn.functional.normalize(u) @ torch.nn.functional.normalize(v).T
        return torch.nn.functional.cross_entropy(scores, torch.arange(len(u)))
    return ((cosines - labels) ** 2).mean()


@pytest.mark.parametrize("loss", ["contrastive", "ranking", "cosine"])
def test_the_formulas_are_those_of_the_library(loss, tiny):
    from sentence_transformers.sentence_transformer import losses

    a, b, labels = TEXTS, TEXTS[::-1], torch.tensor([1, 0, 1])
    model = siamese(tiny).eval()
    theirs = getattr(losses, LOSSES[loss])(model)([model.preprocess(a), model.preprocess(b)], labels.float() if loss == "cosine" else labels)
    ours = by_hand(loss, *(model.encode(t, convert_to_tensor=True) for t in (a, b)), labels)
    assert theirs.item() == pytest.approx(ours.item(), abs=1e-5)


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("loss", list(LOSSES))
def test_every_loss_learns(loss, tiny):
    triples = nli("train")[:6]
    examples = [(t.anchor, h, g) for t in triples for h, g in ((t.entailment, 1.0), (t.contradiction, 0.0))] if loss == "cosine" else recast(triples, loss)
    model = siamese(tiny)
    before = sentence_vectors(TEXTS, model=tiny)
    log = train_siamese(model, examples, loss, FitOptions(epochs=60, batch_size=6, learning_rate=5e-3))
    early, late = (np.mean([record["loss"] for record in part]) for part in (log[:3], log[-3:]))
    assert late < 0.7 * early and not model.training
    assert (model.encode(TEXTS, convert_to_tensor=True) - before).abs().max() > 0.01


def test_the_same_seed_gives_the_same_encoder_and_a_stopped_run_goes_on(tiny, tmp_path):
    examples, options = recast(nli("train")[:8], "softmax"), FitOptions(epochs=2, batch_size=8, learning_rate=1e-3)
    whole, broken, again = (siamese(tiny) for _ in range(3))
    train_siamese(whole, examples, "softmax", options)
    train_siamese(broken, examples, "softmax", options, output=tmp_path, callback=lambda record: record["step"] < 3)
    train_siamese(again, examples, "softmax", options, output=tmp_path, resume=True)
    one, two, stopped = (model.encode(TEXTS, convert_to_tensor=True) for model in (whole, again, broken))
    assert torch.equal(one, two) and not torch.equal(one, stopped)


def test_an_unknown_loss_is_said(tiny):
    with pytest.raises(ValueError, match="choose from softmax, contrastive, ranking, cosine"):
        train_siamese(siamese(tiny), recast([TRIPLE], "ranking"), "triplet")


# ---------------------------------------------------------------- intervals and anisotropy


def test_the_value_is_scipys_and_the_interval_holds_it():
    rng = np.random.default_rng(1)
    grades = rng.integers(0, 6, 200)
    cosines = grades + rng.normal(0, 3, 200)
    found = spearman_interval(grades, cosines)
    assert found.value == pytest.approx(spearmanr(cosines, grades).statistic, abs=1e-6)
    assert found.low < found.value < found.high and 0.1 < found.high - found.low < 0.4


def test_a_lead_is_measured_on_the_same_draws():
    rng = np.random.default_rng(2)
    grades = rng.integers(0, 6, 200).astype(float)
    good, poor = grades + rng.normal(0, 1, 200), grades + rng.normal(0, 9, 200)
    assert spearman_interval(grades, good, minus=poor).verdict == "above"
    assert spearman_interval(grades, poor, minus=good).verdict == "below"
    same = spearman_interval(grades, good, minus=good)
    assert (same.value, same.low, same.high, same.verdict) == (0, 0, 0, "too close to call")


def test_runs_are_averaged():
    grades, good, bad = [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]
    assert spearman_interval(grades, [good, bad]).value == 0
    with pytest.raises(ValueError, match="6 grades and 3 cosines"):
        spearman_interval(grades, [1, 2, 3])


def test_anisotropy():
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(300, 64, generator=generator)
    assert abs(anisotropy(spread)) < 0.02 and anisotropy(spread + 5) > 0.9
    pairwise = [float(bl.cosine(spread[i], spread[j])) for i in range(10) for j in range(10) if i != j]
    assert anisotropy(spread[:10]) == pytest.approx(np.mean(pairwise), abs=1e-5)
    with pytest.raises(ValueError, match="at least two"):
        anisotropy(spread[:1])


def test_the_flat_map_is_pca_with_fixed_signs():
    from sklearn.decomposition import PCA

    vectors = torch.randn(9, 5, generator=torch.Generator().manual_seed(3)) * torch.tensor([4.0, 2, 1, 1, 1])
    pca = PCA(2, svd_solver="full")
    theirs = pca.fit_transform(vectors.double().numpy())
    points, shares = flat_map(vectors)
    assert np.abs(points.numpy()) == pytest.approx(np.abs(theirs), abs=1e-3) and shares == pytest.approx(pca.explained_variance_ratio_, abs=1e-3)
    assert (points[0] > 0).all() and torch.equal(flat_map(-vectors)[0], points)  # a mirrored world has the same map
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(4)))[0]
    assert flat_map(vectors @ turn)[0].numpy() == pytest.approx(points.numpy(), abs=1e-3)


def test_a_map_of_two_or_of_equal_vectors():
    points, shares = flat_map(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert points.tolist() == [[pytest.approx(0.7071, abs=1e-4), 0.0], [pytest.approx(-0.7071, abs=1e-4), 0.0]] and shares == (1.0, 0.0)
    points, shares = flat_map(torch.ones(3, 4))
    assert not points.any() and shares == (0.0, 0.0)
    with pytest.raises(ValueError, match="at least two"):
        flat_map(torch.ones(1, 4))


# ---------------------------------------------------------------- the panel


def test_every_sentence_against_every_other():
    result = compare_sentences(TEXTS, "bl.BERT", "max")
    vectors = sentence_vectors(TEXTS, "max")
    for i in range(3):
        for j in range(3):
            assert result.cosines[i][j] == pytest.approx(float(bl.cosine(vectors[i], vectors[j])), abs=1e-3)
    assert [c for c, _, _ in result.pairs] == sorted((c for c, _, _ in result.pairs), reverse=True) and len(result.pairs) == 3


def test_the_map_escapes_what_was_typed():
    html = render_similarities(compare_sentences(["<script>alert(1)</script>", "A & B."]))
    assert "<script>" not in html and "&lt;script&gt;" in html and "A &amp; B." in html
    assert "<script>" not in SimilarityMap(["<script>alert(1)</script>", "A & B."])._repr_mimebundle_()[0]["text/html"]


def test_matrix_map_and_neighbours_say_the_same():
    result = compare_sentences(TEXTS, "bl.BERT")
    page = BeautifulSoup(render_similarities(result, chosen=2), "html.parser")
    matrix, near = page.find_all("table")
    numbers = [[cell.get_text() for cell in row.find_all("td")] for row in matrix.tbody.find_all("tr")]
    assert numbers == [[f"{c:.2f}" for c in row] for row in result.cosines]
    assert [row.th.get_text()[:2] for row in near.tbody.find_all("tr")] == [f"{j + 1}." for _, j in result.neighbours(2)]
    assert result.neighbours(2) == sorted(((result.cosines[2][j], j) for j in (0, 1)), reverse=True)
    drawing = page.svg
    assert drawing["role"] == "img" and drawing["aria-label"].startswith("Map of 3 sentences by bl.BERT, mean pooling. Most similar: ")
    assert [text.get_text()[0] for text in drawing.find_all("text")] == ["1", "2", "3"] and len(drawing.find_all("circle")) == 3
    across, up = (f"{share:.0%}" for share in result.shares)
    assert f"{across} of the variance lies across, {up} upwards" in page.figcaption.get_text()


@pytest.mark.parametrize("spread", [200, 30, 0])
def test_labels_keep_clear_of_each_other_and_say_less_where_it_is_full(spread):
    rng = np.random.default_rng(0)
    at = [(240 + int(x), 150 + int(y)) for x, y in rng.uniform(-spread, spread, (12, 2)) * (1, 0.6)]
    placed = place_labels(at, ["A sentence that is longer than there is room for."] * 12)
    assert [text.split()[0] for text, *_ in placed] == [str(number) for number in range(1, 13)]
    rows = {}
    for text, x, y, anchor in placed:
        left = x - {"start": 0, "middle": 0.5, "end": 1}[anchor] * 8 * len(text)
        rows.setdefault(y, []).append((left, left + 8 * len(text)))
    if spread == 200:  # with room enough nothing overlaps, and nothing leaves the frame
        for spans in rows.values():
            spans.sort()
            assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:])) and spans[0][0] >= 0 and spans[-1][1] <= 480
        assert sum("sentence" in text for text, *_ in placed) > 6
    assert clip("A sentence", 5) == "A se…" and clip("A", 5) == "A"


def test_the_panel_listens_and_says_what_is_wrong():
    panel = SimilarityMap(["It rained.", "Rain fell.", "Cats purr."])
    (first,) = panel.result.by
    assert (first.model, first.pooling) == ("bl.BERT", "mean") and "bl.BERT, mean pooling" in panel.html
    panel.model.value = "bl.SBERT"
    (second,) = panel.result.by
    assert second.model == "bl.SBERT" and second.cosines != first.cosines and panel.result.pairs == second.pairs
    panel.model.value = "both"
    assert panel.result.by == (first, second) and panel.html.count("<svg") == 2 and panel.html.count("<table") == 4
    panel.pooling.value = "cls"
    assert {one.pooling for one in panel.result.by} == {"cls"} and "cls pooling" in panel.html
    panel.sentences.value = "It rained.\n\n  Rain fell.  "
    assert panel.result.by[0].sentences == ("It rained.", "Rain fell.")
    for wrong, words in (("Only one.", "there are 1"), ("\n".join(["Many."] * 13), "there are 13")):
        panel.sentences.value = wrong
        assert panel.result is None and 'role="alert"' in panel.html and words in panel.html
    panel.sentences.value = "It rained.\nRain fell."
    assert panel.result is not None and 'role="alert"' not in panel.html


def test_the_sentence_to_choose_follows_the_text():
    panel = SimilarityMap(["It rained.", "Rain fell.", "Cats purr."])
    assert panel.chosen.options == ("1. It rained.", "2. Rain fell.", "3. Cats purr.") and "Nearest to sentence 1" in panel.html
    panel.chosen.index = 2
    assert panel.result.chosen == 2 and "Nearest to sentence 3" in panel.html
    answered = []
    panel.compute = lambda compute=panel.compute: answered.append(1) or compute()
    panel.sentences.value = "It rained.\nSnow fell.\nCats purr.\nDogs bark."
    assert panel.chosen.value == "3. Cats purr." and panel.result.chosen == 2 and len(answered) == 1
    panel.sentences.value = "It rained.\nSnow fell."
    assert panel.chosen.value == "2. Snow fell." and panel.result.chosen == 1
    panel.sentences.value = ""
    assert panel.chosen.options == () and panel.result is None
    panel.sentences.value = "It rained.\nSnow fell."
    assert panel.chosen.index == 0 and panel.result.chosen == 0
    panel.chosen.value = "2. Snow fell."
    assert "Nearest to sentence 2" in panel.html


def test_the_page_without_a_kernel_shows_the_table():
    bundle = SimilarityMap(["It rained.", "Rain fell."])._repr_mimebundle_()[0]
    assert "Most similar: 1 and 2" in bundle["text/plain"] and "<table" in bundle["text/html"]
    assert "of the variance" in bundle["text/plain"] and "1 It rained." not in bundle["text/plain"]  # the drawing's labels stay in the drawing
    assert "Neighbours of: <code>1. It rained.</code>" in bundle["text/html"]


# ---------------------------------------------------------------- what the notebook loads


def test_the_stored_results_are_complete():
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    seeds, pairs = set(range(stored["recipe"]["seeds"])), bl.similarity_pairs("test")
    assert len(seeds) >= 3 and stored["command"].startswith("python tests/runs/sbert.py")
    assert {(run["loss"], run["seed"]) for run in stored["losses"]} == {(loss, seed) for loss in LOSSES for seed in seeds}
    assert {(run["trained_with"], run["seed"]) for run in stored["pooling"]} == {(mode, seed) for mode in ("cls", "max") for seed in seeds}
    for run in [*stored["losses"], *stored["pooling"], {"cosines": stored["before"]}]:
        assert all(len(values) == len(pairs) and np.abs(values).max() <= 1 for values in run["cosines"].values())
    assert {(row["arm"], row["seed"]) for row in stored["roles"]} == {(arm, seed) for arm in ("bl.BERT", "bl.SBERT", "tuned") for seed in seeds}
    assert {(r["start"], r["state"], r["seed"]) for r in stored["toy"]["runs"]} == {(a, b, s) for a in ("pretrained", "random") for b in ("raw", "tuned") for s in seeds}
