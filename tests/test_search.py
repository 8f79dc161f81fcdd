"""Search: ranks, baselines, candidates and the cross-encoder's loop."""

import json
import math

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

import bertlab as bl
from bertlab import search
from bertlab.checkpoints import data_folder, load_tokenizer
from bertlab.fine_tuning import FitOptions, fit

TEXTS = ["A red fox slept under the hedge.", "The red bus was late.", "Rain fell all day.", "A fox is a wild animal; the fox hunts at night."]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(bl.BERT)


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(vocab_size=30522, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=1, initializer_range=0.3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)).eval()


def test_bm25_counts_rare_words_and_never_words_that_are_not_shared():
    scores = bl.bm25(["the fox", "snow"], TEXTS)
    assert scores.shape == (2, 4) and scores[0].argmax() == 3 and scores[0, 2] == 0
    assert (scores[1] == 0).all()


def test_bm25_follows_the_formula():
    lengths = [len(search._words(text)) for text in TEXTS]
    k1, b, tf, df, n, length, mean = 1.2, 0.75, 2, 2, 4, lengths[3], sum(lengths) / 4
    expected = math.log(1 + (n - df + 0.5) / (df + 0.5)) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / mean))
    assert bl.bm25(["fox"], TEXTS)[0, 3] == pytest.approx(expected)
    once, twice, often = bl.bm25(["fox"], ["fox dog cat cow", "fox fox cat cow", "fox fox fox fox"])[0]
    assert once < twice < often and often - twice < 2 * (twice - once)  # a repeated word counts less each time


def test_ranks_ties_and_candidates():
    scores = np.array([[0.9, 0.5, 0.1], [0.5, 0.5, 0.5], [0.1, -np.inf, 0.2]])
    result = bl.evaluate_search(scores, [[1, 2], [0], [1]])
    assert result.ranks == (2.0, 3.0, math.inf)  # the better of two right ones; a tie counts against us; not a candidate
    assert result.recall(1) == 0 and result.recall(2) == pytest.approx(1 / 3) and result.mrr == pytest.approx((1 / 2 + 1 / 3) / 3)


@pytest.mark.parametrize("relevant", [[[0]], [[0], []], [[0], [3]], [[0], [-1]]])
def test_what_does_not_fit_is_said(relevant):
    with pytest.raises(ValueError, match="row a query|right texts"):
        bl.evaluate_search(np.zeros((2, 3)), relevant)


def test_bootstrap_covers_the_mean_and_narrows_with_more_values():
    values = np.random.default_rng(1).normal(0.3, 1, 400)
    (low, high), (wide_low, wide_high) = search.bootstrap(values), search.bootstrap(values[:40])
    assert low < values.mean() < high and high - low < (wide_high - wide_low) / 2
    assert search.bootstrap(values) == (low, high)


def test_two_searches_are_compared_query_by_query():
    better, worse = search.SearchResult((1.0,) * 30), search.SearchResult((2.0,) * 30)
    assert better.minus(worse) == (0.5, 0.5, 0.5) and search.verdict(*better.minus(worse)[1:]) == "ahead"
    mixed = search.SearchResult((1.0, 5.0) * 15)
    value, low, high = mixed.interval(1)
    assert value == 0.5 and low < 0.5 < high and mixed.interval()[0] == pytest.approx(0.6)
    with pytest.raises(ValueError, match="same queries"):
        better.minus(search.SearchResult((1.0,)))


def test_find_gives_the_meaning_not_the_words():
    texts = ["The cash machine is outside the bank.", "The river bank was muddy after the storm.", "Her garden is full of roses."]
    vectors = bl.sbert.sentence_vectors(texts, model=bl.SBERT)
    hits = bl.find("Where can I get money?", texts, top_k=2, vectors=vectors)
    assert [h.index for h in hits][0] == 0 and hits[0].text == texts[0] and hits[0].score > hits[1].score and len(hits) == 2
    assert [h.index for h in bl.find("Where can I get money?", texts, top_k=9)][0] == 0
    with pytest.raises(ValueError, match="one vector a text"):
        bl.find("money", texts, vectors=vectors[:2])
    with pytest.raises(ValueError, match="query is empty"):
        bl.find(" ", texts, vectors=vectors)


def test_training_pairs_take_the_hardest_wrong_passages():
    passages = [bl.datasets.Passage(f"p{i}", "t", f"text {i}") for i in range(5)]
    pairs = search.training_pairs([bl.datasets.Query("q", ("p1", "p3"))], passages, [[5.0, 4.0, 3.0, 2.0, 1.0]], negatives=2)
    assert [(p.passage, p.label) for p in pairs] == [("text 1", 1.0), ("text 3", 1.0), ("text 0", 0.0), ("text 2", 0.0)]


def test_rerank_scores_only_the_candidates():
    seen = []

    def by_length(pairs):
        seen.extend(pairs)
        return np.array([len(text) for _, text in pairs])

    first = np.array([[0.9, 0.8, 0.1, 0.2], [0.1, 0.2, 0.9, 0.8]])
    new = search.rerank(first, ["a", "b"], TEXTS, by_length, top_k=2)
    assert seen == [("a", TEXTS[0]), ("a", TEXTS[1]), ("b", TEXTS[2]), ("b", TEXTS[3])]
    assert np.isinf(new).sum() == 4 and new[1].argmax() == 3
    with pytest.raises(ValueError, match="shape"):
        search.rerank(first, ["a"], TEXTS, by_length)


def test_neighbour_recall():
    assert search.neighbour_recall([[3, 1, 2]], [[1, 2, 3]]) == 1 and search.neighbour_recall([[-1, 4]], [[4, 5]]) == 0.5
    with pytest.raises(ValueError, match="one shape"):
        search.neighbour_recall([[1]], [[1, 2]])


def test_cross_scores_keep_the_order_and_do_not_depend_on_the_batch(tiny, tokenizer):
    pairs = [("where is the fox", text) for text in TEXTS] + [("bus", TEXTS[1])]
    together = search.cross_scores(tiny, tokenizer, pairs)
    alone = np.concatenate([search.cross_scores(tiny, tokenizer, [p], batch_size=1) for p in pairs])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(set(together.round(6))) == len(pairs)
    swapped = search.cross_scores(tiny, tokenizer, [(b, a) for a, b in pairs])
    assert np.abs(swapped - together).max() > 1e-4  # query and text are different segments


def test_a_cross_encoder_learns_to_tell_its_pairs_apart(tiny, tokenizer):
    pairs = [search.LabelledPair(q, t, float(t.startswith(q))) for q in ("cats", "shares", "rain") for t in ("cats sleep", "shares fell", "rain came")]
    before = search.pair_loss(tokenizer)(tiny, pairs).item()
    fit(tiny, pairs, search.pair_loss(tokenizer), FitOptions(epochs=60, batch_size=9, learning_rate=1e-2, weight_decay=0))
    assert search.pair_loss(tokenizer)(tiny, pairs).item() < before / 3
    scores = search.cross_scores(tiny, tokenizer, [(p.query, p.passage) for p in pairs])
    assert all((score > 0) == bool(p.label) for score, p in zip(scores, pairs))


def test_long_passages_are_cut_but_the_query_is_kept(tiny, tokenizer):
    long = "word " * 600
    one, other = search.cross_scores(tiny, tokenizer, [("first query", long), ("second query", long)], max_length=32)
    assert one != other
    assert search.cross_scores(tiny, tokenizer, [("q", long + "end")], max_length=32) == search.cross_scores(tiny, tokenizer, [("q", long + "stop")], max_length=32)


def test_the_head_is_new_and_seeded():
    a, b, c = (search.cross_encoder(bl.BERT, seed).classifier.weight for seed in (0, 0, 1))
    assert a.shape == (1, 384) and torch.equal(a, b) and not torch.equal(a, c)


def test_the_stored_measurements_are_complete():
    stored = json.loads((data_folder() / "results" / "search.json").read_text(encoding="utf-8"))
    assert stored["command"] == "python tests/runs/search.py" and {"cross", "cost", "index", "backends"} <= set(stored)
    cost = stored["cost"]
    assert cost["pairs"] == cost["n"] * (cost["n"] - 1) // 2
    assert cost["ratio"] == pytest.approx(cost["cross_hours"] * 3600 / (cost["bi_encode_seconds"] + cost["bi_compare_seconds"]), rel=0.02)
    for row in stored["cross"]["rows"].values():
        low, high = row["mrr_interval"]
        assert low <= np.mean(row["mrr"]) <= high and all(0 <= v <= 1 for v in row["mrr"])
    for kind in ("IVF", "HNSW"):
        recalls = [r["recall"] for r in stored["index"]["rows"] if r["index"] == kind and r["library"] == "faiss"]
        assert recalls[0] < recalls[-1] and recalls[-1] > 0.9
    assert stored["index"]["indexed"] > 35_000 and stored["backends"]["rows"]["torch, float32"]["time"] == 1
