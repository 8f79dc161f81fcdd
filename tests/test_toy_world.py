"""The toy world keeps its own rules, and a tiny BERT of it is an ordinary checkpoint."""

import random
import re
from collections import Counter

import numpy as np
import pytest
import torch

import bertlab as bl
from bertlab import toy_world as tw
from bertlab.pretraining import PairOptions

EVENTS = [tw.random_event(random.Random(seed), action) for seed in range(30) for action in tw.SOURCES]


@pytest.fixture(scope="module")
def texts():
    return tw.documents(400, seed=3)


# ---------------------------------------------------------------- documents


def test_documents_follow_from_the_seed(texts):
    assert tw.documents(400, seed=3) == texts and tw.documents(400, seed=4) != texts
    assert {d.source for d in texts} == set(tw.SOURCES)
    assert all(5 <= len(d.sentences) <= 9 for d in texts)


def test_a_document_is_about_its_two_people(texts):
    for document in texts:
        named = {name for name in tw.PEOPLE if re.search(rf"\b{name}\b", " ".join(document.sentences))}
        assert named <= set(document.title.split(" and ")) and len(document.title.split(" and ")) == 2


def test_the_world_has_rules_and_no_exceptions(texts):
    sentences = [s for d in texts for s in d.sentences]
    for name, fact in tw.TRUE_OF.items():
        kind = tw.KIND_OF[name]
        said = [s for s in sentences if re.match(rf"The {name}(?! (falls|shines|blows))\b", s)]
        assert said and all(s in (f"The {name} {fact}.", f"The {name} is {tw._a(kind)}.") or " has " in s or " belongs " in s for s in said), name
    for before, after in ((d.sentences[i], d.sentences[i + 1]) for d in texts for i in range(len(d.sentences) - 1)):
        if found := re.match(r"(\w+) is the (\w+) and works at the (\w+)\.", before):
            name, job, place = found.groups()
            assert tw.PLACES[place][0] == job
            assert after == f"{tw.pronoun(name).capitalize()} makes {tw.PLACES[place][1]} there."


def test_pronouns():
    assert {tw.pronoun(n) for n in tw.WOMEN} == {"she"} and {tw.pronoun(n) for n in tw.MEN} == {"he"}


def test_all_wordings_name_all_that_happens():
    for event in EVENTS:
        said = tw.wordings(event, random.Random(0))
        assert len(set(said)) >= 3
        for text in said:
            assert text[0].isupper() and text.endswith(".") and "{" not in text
            for word in filter(None, (event.who, event.whom, event.place, event.origin)):
                assert re.search(rf"\b{word}\b", text, re.IGNORECASE)
            assert not event.thing or any(name in text for name in tw.NAMES_OF[event.thing])


def test_text_files_are_in_bert_s_layout(tmp_path):
    paths = tw.write_text(tmp_path, 50, seed=1)
    read = {path.stem: list(bl.pretraining.read_documents(path)) for path in paths}
    for source in tw.SOURCES:
        assert read[source] == [list(d.sentences) for d in tw.documents(50, seed=1) if d.source == source]


# ---------------------------------------------------------------- tasks


def test_entailment_is_balanced_and_gives_nothing_away():
    pairs = tw.entailment_pairs(1600, seed=5)
    assert Counter((p.kind, p.label) for p in pairs) == {(kind, label): 160 for kind in ("what", "season", "work", "who", "where") for label in (0, 1)}
    for kind in ("season", "work", "who", "where"):  # yes and no share as many words with the premise
        overlap = {label: np.mean([bl.word_overlap(p.premise, p.hypothesis) for p in pairs if (p.kind, p.label) == (kind, label)]) for label in (0, 1)}
        assert abs(overlap[0] - overlap[1]) < 0.02
    counts = Counter(word for p in pairs for word in p.hypothesis.split() if p.label)
    for word, yes in counts.items():  # no word of the hypothesis decides
        everything = sum(word in p.hypothesis.split() for p in pairs)
        assert everything < 60 or 0.3 < yes / everything < 0.7, word


def test_entailment_labels_are_right():
    for pair in tw.entailment_pairs(400, seed=6):
        if pair.kind == "where":
            place = re.search(r"(?:to the (\w+)\.|came to the (\w+)\.)$", pair.premise)
            assert (pair.hypothesis.split()[-1][:-1] in place.groups()) == bool(pair.label)
        if pair.kind == "season":
            weather, feel = next(pair_of for pair_of in tw.SEASONS.values() if pair_of[0] in pair.premise.lower())
            assert (f"It is {feel} at" in pair.hypothesis) == bool(pair.label)
        if pair.kind == "work":
            name, job = re.search(r"(\w+) is the (\w+) and works", pair.premise).groups()
            product = next(product for each, product in tw.PLACES.values() if each == job)
            assert pair.hypothesis.startswith(f"{tw.pronoun(name).capitalize()} makes ")
            assert (f"makes {product} there" in pair.hypothesis) == bool(pair.label)
        if pair.kind == "what":
            named = {tw.KIND_OF[w] for w in re.findall(r"\w+", pair.premise) if w in tw.KIND_OF}
            assert (pair.hypothesis.split()[-1][:-1] in named) == bool(pair.label)


@pytest.mark.parametrize(
    "change, grade",
    [
        ({}, 5),
        ({"place": "forge"}, 4),
        ({"thing": "pear"}, 3),
        ({"action": "sell"}, 3),
        ({"thing": "dog"}, 2),
        ({"who": "Tomo", "whom": "Mira"}, 2),
        ({"thing": "pear", "place": "forge"}, 2),
        ({"who": "Tomo", "whom": "Mira", "thing": "dog", "place": "forge"}, 1),
        ({"action": "help", "thing": ""}, 1),
        ({"who": "Kaya", "whom": "Otto"}, 1),
        ({"who": "Kaya", "whom": "Otto", "thing": "pear"}, 0),
    ],
)
def test_grades_follow_the_rule(change, grade):
    from dataclasses import replace

    gift = tw.Event("give", "Mira", "mill", "Tomo", "plum")
    assert tw.similarity(gift, replace(gift, **change)) == grade == tw.similarity(replace(gift, **change), gift)


def test_similarity_pairs_are_graded_evenly_and_train_never_meets_test():
    train, test = tw.similarity_pairs(600, seed=1, split="train"), tw.similarity_pairs(600, seed=2, split="test")
    assert Counter(p.grade for p in train) == Counter(p.grade for p in test) == {float(g): 100 for g in range(6)}
    texts = [{(p.sentence_a, p.sentence_b) for p in part} for part in (train, test)]
    assert not texts[0] & texts[1] and len(texts[0]) == 600
    assert all(p.sentence_a != p.sentence_b for p in train)
    assert isinstance(train[0], bl.datasets.SimilarityPair)
    assert tw.similarity_pairs(12, seed=1, split="train") == train[:12]


def test_unknown_splits_are_refused():
    with pytest.raises(ValueError, match="'dev'"):
        tw.similarity_pairs(2, split="dev")
    with pytest.raises(ValueError, match="'dev'"):
        tw.entailment_pairs(2, split="dev")


def test_cloze_answers_are_right():
    for question in tw.cloze_questions(120, seed=2):
        assert question.text.count("[MASK]") == 1
        filled = question.text.replace("[MASK]", question.answer)
        if question.kind == "fact":
            name = filled.split()[1]
            assert filled == f"The {name} {tw.TRUE_OF[name]}."
        if question.kind == "person":
            assert question.answer.capitalize() in tw.PEOPLE and question.answer.capitalize() in question.text
        if question.kind == "place":
            assert f"to the {question.answer}." in question.text


# ---------------------------------------------------------------- tokenizer and model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two dozen steps of real training, small: the folder, the model, the tokenizer, the records."""
    folder, records = tmp_path_factory.mktemp("run"), []
    model, tokenizer = tw.train(seed=1, tokens=6000, text=300, output=folder, callback=records.append)
    return folder, model, tokenizer, records


def test_the_vocabulary_is_the_same_every_time(tmp_path):
    paths = tw.write_text(tmp_path, 300)
    first, second = (tw.train_tokenizer(paths) for _ in range(2))
    assert first.get_vocab() == second.get_vocab() and len(first) <= 290
    assert first("Mira", "Tomo").tokens() == ["[CLS]", "mira", "[SEP]", "tomo", "[SEP]"]
    assert first("Mira", "Tomo").token_type_ids == [0, 0, 0, 1, 1]
    assert first.unk_token_id not in first(" ".join(s for d in tw.documents(50) for s in d.sentences), truncation=False, verbose=False).input_ids


def test_train_leaves_an_ordinary_checkpoint(run):
    from transformers import AutoTokenizer, BertForPreTraining

    folder, model, tokenizer, records = run
    again = BertForPreTraining.from_pretrained(folder / "model").eval()
    batch = AutoTokenizer.from_pretrained(folder / "model")("The dog [MASK].", "The cat meows.", return_tensors="pt")
    assert batch["input_ids"].tolist() == tokenizer("The dog [MASK].", "The cat meows.", return_tensors="pt")["input_ids"].tolist()
    with torch.inference_mode():
        assert torch.allclose(again(**batch).prediction_logits, model(**batch).prediction_logits, atol=0.05)  # float16 on disk
    assert not model.training and {"train", "evaluation"} >= {r["event"] for r in records} and len(records) >= 4


def test_training_teaches_and_is_repeatable(run):
    _, model, tokenizer, records = run
    losses = [r["mlm_loss"] for r in records if r["event"] == "evaluation"]
    assert losses[-1] < losses[0] - 0.3
    repeated, _ = tw.train(seed=1, tokens=6000, text=300)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(model.state_dict().values(), repeated.state_dict().values()))


def test_random_weights_and_bad_objectives():
    one, other = (tw.train(seed=seed, tokens=0, text=300)[0] for seed in (0, 1))
    assert not torch.equal(one.bert.pooler.dense.weight, other.bert.pooler.dense.weight)
    with pytest.raises(ValueError, match="'topic'"):
        tw.train(objective="topic")


def test_the_objective_reaches_the_pairs():
    assert tw.recipe(10, "sop", mask=0.15).pairs == PairOptions(max_length=40, objective="sop", short=0.3)
    assert tw.recipe(10, mask=0.15).mask == 0.15


def test_cloze_score_counts_right_answers(run):
    _, model, tokenizer, _ = run
    questions = tw.cloze_questions(60)
    asked = [q for q in questions if q.answer in tokenizer.get_vocab()]
    scores = tw.score_cloze(model, tokenizer, questions)
    guesses = [bl.pretraining.sample_predictions(model, tokenizer, q.text, top_k=1)[0] for q in asked]
    for kind in scores:
        assert scores[kind] == pytest.approx(np.mean([g == q.answer for g, q in zip(guesses, asked) if q.kind == kind]))


def test_entailment_tuning_leaves_the_model_alone_and_learns(run, monkeypatch):
    _, model, tokenizer, _ = run
    monkeypatch.setattr(tw, "TUNING_EPOCHS", 12)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pairs, records = tw.entailment_pairs(16, seed=1), []
    classifier = tw.tune_entailment(model, tokenizer, pairs, callback=records.append)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    right = tw.score_entailment(classifier, tokenizer, pairs)
    assert right.shape == (16,) and right.dtype == bool
    assert records[-1]["loss"] < records[0]["loss"]
