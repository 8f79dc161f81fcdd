"""Classifiers on a pooled vector: they ignore padding, learn, agree with transformers, and their scores are right."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

import bertlab as bl
from bertlab import plots
from bertlab.checkpoints import SHA256, load_tokenizer
from bertlab.classification import Accuracy, SentenceClassifier, accuracy, accuracy_by_kind, bootstrap_gap, classify, loss_with, new_classifier, text_vectors
from bertlab.datasets import SentimentExample, sentiment
from bertlab.fine_tuning import HEADS, FitOptions, fit

RESULTS = Path(__file__).parent.parent / "data" / "results" / "classification.json"
TEXTS = ["A good book.", "I would not go back to that cold and noisy hotel again.", "Fine."]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(bl.BERT)


def tiny(seed=0):
    torch.manual_seed(seed)
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    return BertModel(config)


# ---------------------------------------------------------------- scores


def test_wilson_intervals_are_those_of_the_textbook():
    score = Accuracy(8, 10)  # the usual worked example: 0.49 to 0.943
    assert (score.low, score.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert Accuracy(0, 20).low == 0 and Accuracy(20, 20).high == 1
    assert Accuracy(0, 20).high == pytest.approx(0.1611, abs=1e-4)
    for right, total in ((5, 4), (-1, 4), (0, 0)):
        with pytest.raises(ValueError, match="no accuracy"):
            Accuracy(right, total)


def test_accuracy_and_its_parts():
    examples = [SentimentExample(str(i), i % 2, "films", "plain" if i < 6 else "irony") for i in range(10)]
    said = [0, 1, 0, 1, 0, 0, 1, 1, 1, 1]
    assert accuracy(said, [e.label for e in examples]) == Accuracy(7, 10)
    assert accuracy_by_kind(said, examples) == {"plain": Accuracy(5, 6), "irony": Accuracy(2, 4)}
    with pytest.raises(ValueError, match="one answer for each example"):
        accuracy([1, 0], [1])


def test_the_bootstrap_pairs_the_examples():
    rng = np.random.default_rng(1)
    hard = rng.random(400) < 0.5
    a, b = ~hard, ~hard & (rng.random(400) > 0.04)  # b is wrong on a few more of the same sentences
    gap, low, high = bootstrap_gap(a, b)
    assert gap == pytest.approx(a.mean() - b.mean()) and 0 < low < gap < high < 0.06
    other = rng.permutation(b)  # the same score without the pairing: the interval must reach over zero
    assert bootstrap_gap(a, other)[1] < 0 < bootstrap_gap(a, other)[2]
    assert bootstrap_gap([a, a], [b, b]) == (gap, low, high)
    assert bootstrap_gap(b, a)[0] == -gap


# ---------------------------------------------------------------- the model


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean", "max"])
def test_padding_changes_no_answer(tokenizer, pooling):
    model = SentenceClassifier(tiny(), pooling=pooling)
    torch.nn.init.normal_(model.classifier.weight)  # large enough to see a difference
    together = classify(model, tokenizer, TEXTS)
    alone = torch.cat([classify(model, tokenizer, [text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert together.shape == (3, 2) and together.std(0).min() > 1e-4
    torch.testing.assert_close(text_vectors(model.encoder, tokenizer, TEXTS, pooling), text_vectors(model.encoder, tokenizer, TEXTS, pooling, batch_size=1), atol=1e-5, rtol=0)


def test_pooler_is_what_transformers_does(tokenizer):
    encoder = tiny()
    theirs = BertForSequenceClassification(encoder.config).eval()
    theirs.bert, ours = encoder, SentenceClassifier(encoder)
    theirs.classifier.load_state_dict(ours.classifier.state_dict())
    torch.testing.assert_close(classify(theirs, tokenizer, TEXTS), classify(ours, tokenizer, TEXTS))
    examples = [SentimentExample(t, i % 2, "", "") for i, t in enumerate(TEXTS)]
    ours.eval()
    torch.testing.assert_close(loss_with(tokenizer)(theirs, examples), loss_with(tokenizer)(ours, examples))


def test_a_seed_decides_the_head_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    encoder = tiny()
    torch.set_rng_state(before)
    heads = [SentenceClassifier(encoder, seed=seed).classifier for seed in (0, 0, 1)]
    assert torch.equal(heads[0].weight, heads[1].weight) and not torch.equal(heads[0].weight, heads[2].weight)
    assert 0.01 < heads[0].weight.std() < 0.03 and not heads[0].bias.any()


def test_dropout_is_off_for_answers_and_back_on_afterwards(tokenizer):
    model = SentenceClassifier(tiny(), dropout=0.9).train()
    assert torch.equal(classify(model, tokenizer, TEXTS), classify(model, tokenizer, TEXTS)) and model.training
    model.encoder.train()
    text_vectors(model.encoder, tokenizer, TEXTS)
    assert model.encoder.training


EASY = [SentimentExample(f"The {thing} was {word}.", label, "", "plain") for label, word in enumerate(("awful", "lovely")) for thing in "book film hotel meal song coat desk phone".split()]


@pytest.mark.parametrize("pooling", ["pooler", "mean"])
def test_it_learns_from_words(tokenizer, pooling):
    model = SentenceClassifier(tiny(), pooling=pooling)
    log = fit(model, EASY, loss_with(tokenizer), FitOptions(epochs=25, batch_size=8, learning_rate=3e-3))
    said = classify(model, tokenizer, [e.text for e in EASY]).argmax(1).tolist()
    assert accuracy(said, [e.label for e in EASY]).share > 0.9 and log[-1]["loss"] < 0.5 * log[0]["loss"]


def test_a_frozen_encoder_stays(tokenizer):
    model = SentenceClassifier(tiny())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(HEADS))
    before = {name: p.clone() for name, p in model.named_parameters()}
    fit(model, EASY, loss_with(tokenizer), FitOptions(epochs=1, batch_size=8, learning_rate=1e-2))
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"classifier.weight", "classifier.bias"}


def test_new_classifiers_do_not_share_weights_with_each_other_or_with_bl_encode():
    first, second = new_classifier("mean"), new_classifier("mean")
    with torch.no_grad():
        first.encoder.embeddings.word_embeddings.weight.zero_()
    assert second.encoder.embeddings.word_embeddings.weight.any()
    assert bl.encode("A cat.").hidden_states[0].std() > 0.01


def test_what_is_wrong_is_said(tokenizer):
    with pytest.raises(ValueError, match="no pooling 'median': choose from pooler, cls, mean"):
        SentenceClassifier(tiny(), pooling="median")
    bare = BertModel(tiny().config, add_pooling_layer=False)
    with pytest.raises(ValueError, match="has no pooler"):
        SentenceClassifier(bare)
    assert SentenceClassifier(bare, pooling="cls")
    with pytest.raises(ValueError, match=r"texts\[1\] is empty"):
        classify(SentenceClassifier(tiny()), tokenizer, ["Fine.", " "])


# ---------------------------------------------------------------- stored results and figures


def test_stored_results_are_whole_and_of_the_bundled_weights():
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert stored["weights"] == SHA256["BERT"], f"run again: {stored['command']}"
    assert {(a["encoder"], a["pooling"]) for a in stored["arms"]} == {(e, p) for e in ("tuned", "frozen") for p in ("pooler", "cls", "mean")}
    labels = [e.label for e in sentiment("test")]
    assert stored["sentences"]["test"] == len(labels) and stored["sentences"]["train"] == len(sentiment("train"))
    for arm in stored["arms"]:
        assert len(arm["positive"]) == len(arm["accuracy"]) == len(stored["arms"][0]["positive"]) >= 2
        for run, share in zip(arm["positive"], arm["accuracy"]):
            assert accuracy([int(p >= 0.5) for p in run], labels).share == pytest.approx(share, abs=0.005)
        assert arm["learning_rate"] == max(arm["tried"], key=lambda t: t["accuracy"])["learning_rate"]


def test_figures_hold_what_they_were_given():
    figure = plots.intervals({"a": (0.5, 0.4, 0.6), "b": (0.8, 0.7, 0.9)}, "t", "accuracy", line=0.5)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]
    figure = plots.runs({"tuned": {"cls": [0.8, 0.9]}, "frozen": {"cls": [0.6, 0.7]}}, "t", "accuracy")
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["tuned", "frozen"]
    points = np.random.default_rng(0).normal(size=(20, 5))
    figure = plots.maps_2d({"before": points, "after": points}, ["x", "y"] * 10, "t")
    assert [ax.get_title() for ax in figure.axes] == ["before", "after"]
    assert len(figure.axes[0].collections) == 2 and sum(len(c.get_offsets()) for c in figure.axes[0].collections) == 20
