"""The data sets keep what their data sheet promises."""

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from scipy.stats import spearmanr

import bertlab as bl
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


def test_bad_requests_are_said_in_words():
    for call in (lambda: bl.similarity_pairs("dev"), lambda: bl.senses("dog"), lambda: bl.next_sentence_pairs(("nearby",)), lambda: bl.next_sentence_pairs(per_kind=9999)):
        with pytest.raises(ValueError, match="(is|choose|ask)"):
            call()


def test_the_split_is_the_sha1_of_the_text():
    assert split_of("x") == ("test" if int(hashlib.sha1(b"x").hexdigest()[:8], 16) < 0.65 * 2**32 else "train")


def test_everyday_text_has_berts_layout_and_repeats_nothing():
    documents = list(read_documents(data_folder() / "everyday.txt"))
    sentences = [s for d in documents for s in d]
    assert len(documents) == 2716 and len(sentences) == 18828
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
