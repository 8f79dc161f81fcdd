"""The data sets keep what their data sheet promises."""

import csv
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from scipy.stats import spearmanr

import bertlab as bl
from bertlab import datasets
from bertlab.checkpoints import data_folder
from bertlab.datasets import NEGATIVE_KINDS, split_of
from bertlab.pretraining import read_documents


def normal(text):
    return " ".join(text.lower().split()).rstrip(".!?")



def words(text, n=5):
    tokens = normal(text).split()
    return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}


def test_similarity_is_balanced_and_in_range():
    pairs = bl.similarity_pairs()
    assert len(pairs) == 540
    assert all(0 <= p.grade <= 5 and (2 * p.grade).is_integer() for p in pairs)
    bands = Counter(int(p.grade + 0.5) for p in pairs)
    assert set(bands) == set(range(6)) and min(bands.values()) >= 80
    kinds = Counter(p.kind for p in pairs)
    assert kinds["shared_words"] >= len(pairs) / 4 and kinds["few_shared_words"] >= len(pairs) / 4
    assert all(p.grade <= 3 for p in pairs if p.kind == "shared_words")
    assert all(p.grade >= 4 for p in pairs if p.kind == "few_shared_words")


def test_kinds_are_what_they_say():
    by_kind = {}
    for p in bl.similarity_pairs():
        by_kind.setdefault(p.kind, []).append(bl.word_overlap(p.sentence_a, p.sentence_b))
    mean = {kind: sum(v) / len(v) for kind, v in by_kind.items()}
    assert mean["shared_words"] > 0.5 and mean["few_shared_words"] < 0.15


def test_no_sentence_occurs_twice():
    sentences = [normal(s) for p in bl.similarity_pairs() for s in (p.sentence_a, p.sentence_b)]
    assert len(sentences) == len(set(sentences))
    documents = [normal(s) for d in bl.documents() for s in d.sentences]
    assert len(documents) == len(set(documents))
    examples = [normal(e.sentence) for e in bl.senses()]
    assert len(examples) == len(set(examples))


def test_splits_do_not_leak():
    train, test = bl.similarity_pairs("train"), bl.similarity_pairs("test")
    assert len(test) >= 300 and len(train) + len(test) == len(bl.similarity_pairs())
    seen = [words(s) for p in train for s in (p.sentence_a, p.sentence_b)]
    for p in test:
        for s in (p.sentence_a, p.sentence_b):
            mine = words(s)
            assert all(len(mine & other) < 0.5 * max(1, len(mine | other)) for other in seen), s


def test_word_overlap_does_not_give_the_grade_away():
    pairs = bl.similarity_pairs("test")
    overlap = [bl.word_overlap(p.sentence_a, p.sentence_b) for p in pairs]
    assert spearmanr(overlap, [p.grade for p in pairs]).statistic <= 0.30


def test_the_second_grading_agrees():
    grades = {(p.sentence_a, p.sentence_b): p.grade for p in bl.similarity_pairs()}
    with open(data_folder() / "similarity_regraded.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 150
    first = [grades[r["sentence_a"], r["sentence_b"]] for r in rows]
    assert spearmanr(first, [float(r["grade"]) for r in rows]).statistic > 0.8


def test_senses_hold_their_word_once():
    examples = bl.senses()
    assert len(examples) >= 60
    for e in examples:
        tokens = [t.strip(".,;:!?\"'") for t in e.sentence.split()]
        assert tokens.count(e.word) == 1 and tokens[0] != e.word, e.sentence
    assert min(Counter((e.word, e.sense) for e in examples).values()) >= 5
    assert all(len({e.sense for e in bl.senses(w)}) >= 2 for w in {e.word for e in examples})


def test_documents_have_the_promised_form():
    texts = bl.documents()
    assert len(texts) >= 120 and len({d.id for d in texts}) == len(texts)
    assert all(4 <= len(d.sentences) <= 8 for d in texts)
    assert len(Counter(d.source for d in texts)) >= 5


def test_next_sentence_pairs_are_what_they_say():
    place = {s: (d.id, d.source, i) for d in bl.documents() for i, s in enumerate(d.sentences)}
    pairs = bl.next_sentence_pairs(per_kind=100)
    assert Counter(p.kind for p in pairs) == dict.fromkeys(("next", *NEGATIVE_KINDS), 100)
    for p in pairs:
        (id_a, source_a, a), (id_b, source_b, b) = place[p.sentence_a], place[p.sentence_b]
        assert p.label == int(p.kind != "next")
        assert {
            "next": id_a == id_b and b == a + 1,
            "swapped": id_a == id_b and a == b + 1,
            "same document": id_a == id_b and abs(a - b) > 1,
            "same source": id_a != id_b and source_a == source_b,
            "another source": source_a != source_b,
        }[p.kind]
    assert pairs == bl.next_sentence_pairs(per_kind=100) != bl.next_sentence_pairs(per_kind=100, seed=1)


def test_the_gallery_is_what_it_says():
    place = {s: (d.id, d.source, i) for d in bl.documents() for i, s in enumerate(d.sentences)}
    gallery = datasets.next_sentence_gallery()
    assert len({pair.title for pair in gallery}) == len(gallery)
    from_documents = [pair for pair in gallery if pair.sentence_a in place]
    assert [pair.kind for pair in from_documents] == ["next", "same document", "swapped", "another source"] * 2
    for pair in from_documents:
        (id_a, source_a, a), (id_b, source_b, b) = place[pair.sentence_a], place[pair.sentence_b]
        kind = {1: "next", -1: "swapped"}.get(b - a, "same document") if id_a == id_b else "same source" if source_a == source_b else "another source"
        assert kind == pair.kind and pair.label == int(kind != "next")
    (follows, again) = (pair for pair in gallery if pair not in from_documents)
    assert (follows.label, bl.word_overlap(follows.sentence_a, follows.sentence_b)) == (0, 0)
    assert (again.label, bl.word_overlap(again.sentence_a, again.sentence_b)) == (1, 1)


def test_random_sentences_repeat_with_their_seed_and_vary():
    drawn = [datasets.random_sentence(seed) for seed in range(100)]
    assert drawn == [datasets.random_sentence(seed) for seed in range(100)]
    assert len({d.sentences[i] for d, i in drawn}) > 80 and len({d.source for d, _ in drawn}) == 7


def test_bad_requests_are_said_in_words():
    for call in (lambda: bl.similarity_pairs("dev"), lambda: bl.senses("dog"), lambda: bl.next_sentence_pairs(("nearby",)), lambda: bl.next_sentence_pairs(per_kind=9999)):
        with pytest.raises(ValueError, match="(is|choose|ask)"):
            call()


def test_the_split_is_the_sha1_of_the_text():
    assert split_of("x") == ("test" if int(hashlib.sha1(b"x").hexdigest()[:8], 16) < 0.65 * 2**32 else "train")


def test_everyday_text_has_berts_layout_and_repeats_nothing():
    documents = list(read_documents(data_folder() / "everyday.txt"))
    sentences = [s for d in documents for s in d]
    assert len(documents) == 3554 and len(sentences) == 24797
    assert min(map(len, documents)) >= 2 and max(map(len, documents)) <= 9
    assert all(s.isascii() and 1 < len(s.split()) <= 30 for s in sentences)
    assert len({normal(s) for s in sentences}) == len(sentences)


def test_everyday_text_does_not_hold_the_cloze_probes():
    """The probes test what pretraining taught: a filled-in probe must not have been in the text."""
    seen = {}
    for document in read_documents(data_folder() / "everyday.txt"):
        for sentence in document:
            for gram in words(sentence):
                seen.setdefault(gram, []).append(words(sentence))
    for line in (Path(__file__).parent / "data" / "cloze.jsonl").read_text(encoding="utf-8").splitlines():
        probe = json.loads(line)
        for answer in probe["answers"]:
            mine = words(probe["text"].replace("[MASK]", answer))
            for other in (o for gram in mine for o in seen.get(gram, [])):
                assert len(mine & other) < 0.4 * len(mine | other), probe["text"]


# ---------------------------------------------------------------- classification, inference, names, questions, search

FUNCTION_WORDS = set(
    """a an the this that these those my your his her its our their i you he she it we they me him them us who whom whose which what
    and or but nor so yet if when while because as than though although until before after since of in on at to for from by with
    about into over under out up down off through between against without within is are was were be been being am do does did done
    have has had having will would can could shall should may might must not no n't there here then too very just only even more
    most some any all each every one two how why where whether also still again never ever both either neither""".split()
)


def skeleton(text):
    """The sentence with its content words hidden: what a template would leave."""
    return " ".join(w if w in FUNCTION_WORDS else "X" for w in re.findall(r"[\w']+|[.,;:!?]", text.lower()))


TEXTS = {
    "sentiment": lambda split: [e.text for e in datasets.sentiment(split)],
    "nli": lambda split: [s for t in datasets.nli(split) for s in (t.anchor, t.entailment, t.neutral, t.contradiction)],
    "ner": lambda split: [" ".join(s.words) for s in datasets.ner(split)],
    "passages of qa": lambda split: sorted({e.context for e in datasets.question_answering(split)}),
    "questions of qa": lambda split: [e.question for e in datasets.question_answering(split)],
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_are_varied_and_splits_do_not_leak(name):
    whole, train, test = (TEXTS[name](split) for split in (None, "train", "test"))
    assert sorted(whole) == sorted(train + test) and len({normal(t) for t in whole}) == len(whole)
    assert max(Counter(map(skeleton, whole)).values()) <= 5
    by_gram = {}
    for text in train:
        for gram in words(text):
            by_gram.setdefault(gram, []).append(words(text))
    for text in test:
        mine = words(text)
        for other in (o for gram in mine for o in by_gram.get(gram, [])):
            assert len(mine & other) < 0.5 * len(mine | other), text


def test_sentiment_is_balanced():
    examples = datasets.sentiment()
    assert len(examples) == 1000 and set(Counter((e.domain, e.label) for e in examples).values()) == {50}
    kinds = Counter(e.kind for e in examples)
    assert kinds == {"plain": 480, "negation": 180, "implied": 120, "mixed": 120, "irony": 100}
    assert 350 <= len(datasets.sentiment("test")) <= 450


def test_hypotheses_do_not_give_their_class_away():
    triples = datasets.nli()
    assert len(triples) == 600
    lengths = [sum(len(getattr(t, kind).split()) for t in triples) / 600 for kind in ("entailment", "neutral", "contradiction")]
    assert max(lengths) - min(lengths) < 1
    negated = [sum(bool(re.search(r"\b(not|no|never|none|nobody)\b|n't", getattr(t, kind).lower())) for t in triples) for kind in ("entailment", "neutral", "contradiction")]
    assert max(negated) < 0.2 * 600 and max(negated) - min(negated) < 0.06 * 600


def test_tags_are_valid_bio():
    sentences = datasets.ner()
    assert len(sentences) == 400
    entities = Counter()
    for s in sentences:
        assert len(s.words) == len(s.tags) and all(w and not w.isspace() for w in s.words)
        for before, tag in zip(("O", *s.tags), s.tags):
            kind, _, name = tag.partition("-")
            assert (kind == "O") == (name == "") and name in ("", "PER", "ORG", "LOC", "MISC"), tag
            assert kind != "I" or before[2:] == name, s
            entities[name] += kind == "B"
    assert all(entities[name] >= 150 for name in ("PER", "ORG", "LOC", "MISC"))


def test_answers_stand_where_they_are_said_to_stand():
    examples = datasets.question_answering()
    assert len(examples) == len({e.id for e in examples}) == 360 and len({e.context for e in examples}) == 120
    assert sum(not e.answer for e in examples) == 60
    for e in examples:
        assert e.start == -1 if not e.answer else e.context[e.start : e.start + len(e.answer)] == e.answer
        assert not e.answer or (e.context[e.start - 1 : e.start].isalnum() or e.context[e.start + len(e.answer) :][:1].isalnum()) is False, e


def test_qa_keeps_squads_layout():
    squad = json.loads((data_folder() / "qa.json").read_text(encoding="utf-8"))
    for article in squad["data"]:
        for qa in article["paragraphs"][0]["qas"]:
            assert set(qa) == {"id", "question", "is_impossible", "answers"} and qa["is_impossible"] == (not qa["answers"])


def test_queries_name_their_passages():
    found = {p.id: p for p in datasets.passages()}
    queries = datasets.queries()
    assert len(found) == 300 and len(queries) == 100 and set(Counter(p.topic for p in found.values()).values()) == {15}
    assert all(q.relevant and set(q.relevant) <= set(found) for q in queries)
    assert len({normal(q.text) for q in queries}) == 100


def test_faq_has_other_wordings():
    rows = datasets.faq()
    asked = [w for r in rows for w in (r.question, *r.wordings)]
    assert len(rows) >= 40 and all(len(r.wordings) >= 3 for r in rows) and len({normal(w) for w in asked}) == len(asked)
