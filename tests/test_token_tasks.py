"""Names and answers: labels meet the right pieces, whole names are scored, spans are valid, offsets are right."""

import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from seqeval.metrics import f1_score

import bertlab as bl
from bertlab import plots
from bertlab import token_tasks as tt
from bertlab.checkpoints import load_tokenizer
from bertlab.datasets import NerSentence, QaExample
from bertlab.fine_tuning import FitOptions, fit

NER, QA = bl.datasets.ner(), bl.datasets.question_answering()
RESULTS = Path(__file__).parent.parent / "data" / "results" / "token_tasks.json"


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(bl.BERT)


def tiny(kind, **options):
    from transformers import BertConfig

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    return kind(BertConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **options)).eval()


# ---------------------------------------------------------------- named entities


def test_entities_and_tags_are_two_ways_to_say_the_same():
    for sentence in NER:
        names = tt.entities(sentence.tags)
        assert tt.tags_of(names, len(sentence.tags)) == list(sentence.tags)
    assert sum(len(tt.entities(s.tags)) for s in NER) == sum(tag[0] == "B" for s in NER for tag in s.tags)
    with pytest.raises(ValueError, match="'B-TIME' is no tag"):
        tt.entities(["O", "B-TIME"])


def test_scores_are_those_of_seqeval():
    rng = random.Random(0)
    true = [list(s.tags) for s in NER[:80]]
    wrong = [[rng.choice(tt.TAGS) if rng.random() < 0.15 else tag for tag in tags] for tags in true]
    score = tt.entity_score(true, wrong)
    assert 0.2 < score.f1 < 0.95 and score.f1 == pytest.approx(f1_score(true, wrong))
    assert tt.entity_score(true, true).f1 == 1 and tt.entity_score(true, [["O"] * len(t) for t in true]).f1 == 0
    assert tt.entity_score(true, wrong, kinds=False).right >= score.right
    by_kind = [tt.entity_score(true, wrong, only=kind) for kind in tt.KINDS]
    assert sum(s.right for s in by_kind) == score.right and sum(s.predicted for s in by_kind) == score.predicted
    with pytest.raises(ValueError, match="one tag a word"):
        tt.entity_score([["O", "O"]], [["O"]])


def test_labels_stand_on_first_pieces_only(tokenizer):
    words, tags = [("Vasquez", "left", "Zamboanga", "."), ("Yes", ".")], [("B-PER", "O", "B-LOC", "O"), ("O", "O")]
    batch = tt.ner_batch(words, tokenizer, tags)
    pieces = tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
    labelled = [(p, tt.TAGS[n]) for p, n in zip(pieces, batch["labels"][0].tolist()) if n != -100]
    assert [tag for _, tag in labelled] == list(tags[0]) and len(pieces) > 6
    assert not any(piece.startswith("##") or piece in ("[CLS]", "[SEP]", "[PAD]") for piece, _ in labelled)
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    assert "labels" not in tt.ner_batch(words, tokenizer)
    with pytest.raises(ValueError, match="one tag for every word"):
        tt.ner_batch(words, tokenizer, [tags[0], ("O",)])


def test_a_tag_is_read_at_the_first_piece(tokenizer):
    """A stand-in model that knows the labels, and says B-MISC wherever there is none."""

    class Oracle:
        def __call__(self, **batch):
            labels = tt.ner_batch([s.words for s in self.part], tokenizer, [s.tags for s in self.part])["labels"]
            labels[labels == -100] = tt.TAGS.index("B-MISC")
            return SimpleNamespace(logits=torch.nn.functional.one_hot(labels, len(tt.TAGS)).float())

    oracle, found = Oracle(), []
    for begin in range(0, len(NER), 50):
        oracle.part = NER[begin : begin + 50]
        found += tt.predict_tags(oracle, tokenizer, [s.words for s in oracle.part], batch_size=50)
    assert found == [list(s.tags) for s in NER]


def test_words_beyond_512_pieces_count_as_o(tokenizer):
    from transformers import BertForTokenClassification

    model = tiny(BertForTokenClassification, num_labels=len(tt.TAGS))
    (tags,) = tt.predict_tags(model, tokenizer, [["word"] * 600])
    assert len(tags) == 600 and set(tags[510:]) == {"O"}
    (p,) = tt.tag_probabilities(model, tokenizer, [["word", "Zamboanga"]])
    assert p.shape == (2, len(tt.TAGS)) and torch.allclose(p.sum(-1), torch.ones(2))


def test_baselines():
    train, test = bl.datasets.ner("train"), bl.datasets.ner("test")
    names = tt.gazetteer(train)
    score = {}
    for part, sentences in (("train", train), ("test", test)):
        tags = [s.tags for s in sentences]
        score[part] = tt.entity_score(tags, [tt.tag_by_gazetteer(s.words, names) for s in sentences])
        capitals = tt.entity_score(tags, [tt.tag_by_capitals(s.words, names) for s in sentences], kinds=False)
        assert capitals.f1 > 0.5
    assert score["train"].recall > 0.9 > 0.2 > score["test"].recall > 0
    assert tt.tag_by_gazetteer(["in", "Rome"], {}) == ["O", "O"]
    assert tt.tag_by_capitals(["So", "Ann", "Lee", "met", "Bo"], {("bo",): "LOC"}) == ["O", "B-PER", "I-PER", "O", "B-LOC"]
    both = tt.gazetteer([NerSentence(("Jordan",), ("B-LOC",)), NerSentence(("Jordan",), ("B-PER",)), NerSentence(("JORDAN",), ("B-PER",))])
    assert both == {("jordan",): "PER"}


def test_a_tiny_model_learns_eight_sentences(tokenizer):
    from transformers import BertForTokenClassification

    model, few = tiny(BertForTokenClassification, num_labels=len(tt.TAGS)), NER[:8]
    fit(model, few, tt.ner_loss(tokenizer), FitOptions(epochs=60, batch_size=8, learning_rate=5e-3))
    assert tt.entity_score([s.tags for s in few], tt.predict_tags(model, tokenizer, [s.words for s in few])).f1 > 0.9


def test_the_mean_vector_gives_every_token_one_tag(tokenizer):
    from transformers import BertForTokenClassification

    model, few = tiny(BertForTokenClassification, num_labels=len(tt.TAGS)), NER[:8]
    pooled = tt.MeanForEveryToken(model).eval()
    log = fit(pooled, few, tt.ner_loss(tokenizer), FitOptions(epochs=30, batch_size=8, learning_rate=5e-3))
    assert log[-1]["loss"] < log[0]["loss"]
    assert all(len(set(tags)) == 1 for tags in tt.predict_tags(pooled, tokenizer, [s.words for s in few]))


# ---------------------------------------------------------------- question answering


def test_every_answer_of_the_data_is_found_again_from_its_tokens(tokenizer):
    for begin in range(0, len(QA), 60):
        part = QA[begin : begin + 60]
        batch = tt.qa_batch(part, tokenizer)
        for row, example in enumerate(part):
            first, last = batch["start_positions"][row].item(), batch["end_positions"][row].item()
            if example.start < 0:
                assert (first, last) == (0, 0)
            else:
                text = tokenizer.decode(batch["input_ids"][row, first : last + 1]).replace(" ", "")
                plain = tokenizer.decode(tokenizer(example.answer, add_special_tokens=False)["input_ids"]).replace(" ", "")
                assert text == plain and batch["token_type_ids"][row, first : last + 1].all()


def test_a_passage_cut_before_its_answer_is_said(tokenizer):
    late = next(e for e in QA if e.start > 300)
    with pytest.raises(ValueError, match="Raise max_length"):
        tt.qa_batch([late], tokenizer, max_length=40)


def test_best_span_is_the_best_of_all_valid_ones():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        start, end = torch.randn(2, 12, generator=generator)
        allowed = torch.rand(12, generator=generator) > 0.4
        allowed[5] = True
        spans = [(i, j) for i in range(12) for j in range(i, min(12, i + 4)) if allowed[i] and allowed[j]]
        expected = max(spans, key=lambda s: start[s[0]] + end[s[1]])
        first, last, score = tt.best_span(start, end, allowed, longest=4)
        assert (first, last) == expected and score == pytest.approx((start[first] + end[last]).item())
    with pytest.raises(ValueError, match="No token is allowed"):
        tt.best_span(start, end, torch.zeros(12, dtype=torch.bool))


class Pointer:
    """A stand-in model that points at the true answer, or at [CLS] where there is none; the question scores higher still."""

    def __init__(self, examples, tokenizer, sure=5.0):
        self.rows = iter(range(len(examples)))
        self.examples, self.tokenizer, self.sure = examples, tokenizer, sure

    def __call__(self, **batch):
        part = [self.examples[next(self.rows)] for _ in batch["input_ids"]]
        where = tt.qa_batch(part, self.tokenizer)
        start, end = torch.zeros(2, *batch["input_ids"].shape)
        start[:, 2], end[:, 3] = 50.0, 50.0  # in the question: no valid answer
        row = torch.arange(len(part))
        start[row, where["start_positions"]], end[row, where["end_positions"]] = self.sure, self.sure
        return SimpleNamespace(start_logits=start, end_logits=end)


def test_answers_come_from_the_passage_and_from_cls(tokenizer):
    part = [e for e in QA if e.start < 0][:10] + [e for e in QA if 0 < e.start and len(e.answer) < 40][:40]
    answers = tt.answer_questions(Pointer(part, tokenizer), tokenizer, part, batch_size=25)
    assert [a.text for a in answers] == [e.answer for e in part]
    assert all((a.start, a.end) == ((e.start, e.start + len(e.answer)) if e.answer else (-1, -1)) for a, e in zip(answers, part))
    assert answers[0].margin == pytest.approx(10) and answers[-1].margin == pytest.approx(-10)
    never = tt.answer_questions(Pointer(part, tokenizer), tokenizer, part, float("inf"))
    assert all(a.text for a in never) and [a.margin for a in never] == [a.margin for a in answers]
    always = [tt.with_threshold(a, -11) for a in never]
    assert not any(a.text for a in always)


@pytest.mark.parametrize(
    "predicted, true, exact, f1",
    [
        ("The Red Door!", "red door", 1, 1),
        ("", "", 1, 1),
        ("red door", "", 0, 0),
        ("", "red door", 0, 0),
        ("blue", "red door", 0, 0),
        ("door door", "red door", 0, 0.5),
        ("behind the red door", "red door", 0, 0.8),
        ("the", "", 1, 1),
    ],
)
def test_exact_match_and_f1(predicted, true, exact, f1):
    assert tt.exact_match(predicted, true) == exact and tt.answer_f1(predicted, true) == pytest.approx(f1)


def test_the_overlap_baseline_answers_from_the_passage():
    scores = []
    for example in QA:
        answer = tt.answer_by_overlap(example)
        assert set(tt.normal_words(answer)) <= set(tt.normal_words(example.context))
        scores.append(tt.answer_f1(answer, example.answer))
    assert 0.05 < sum(scores) / len(scores) < 0.5


def test_cloze_questions(tokenizer):
    texts = [p.text for p in bl.datasets.passages()[:60]]
    made = tt.cloze_questions(texts, per_text=3, seed=1)
    assert made == tt.cloze_questions(texts, per_text=3, seed=1) != tt.cloze_questions(texts, per_text=3, seed=2)
    whole = " ".join(texts)
    assert len(made) > 150 and all(e.context in whole and 1 <= len(tt.sentences_of(e.context)) <= 4 for e in made)
    empty = [e for e in made if not e.answer]
    assert 0.05 < len(empty) / len(made) < 0.3 and all(e.start == -1 for e in empty)
    assert all(e.context[e.start :].startswith(e.answer) and 1 <= len(e.answer.split()) <= 4 for e in made if e.answer)
    tt.qa_batch(made, tokenizer)  # every answer has its tokens
    assert not [e for e in tt.cloze_questions(texts, no_answer=0) if not e.answer]


def test_a_tiny_model_learns_eight_questions(tokenizer):
    from transformers import BertForQuestionAnswering

    model, few = tiny(BertForQuestionAnswering), QA[:8]
    fit(model, few, tt.qa_loss(tokenizer), FitOptions(epochs=80, batch_size=8, learning_rate=5e-3))
    answers = tt.answer_questions(model, tokenizer, few)
    assert sum(tt.exact_match(a.text, e.answer) for a, e in zip(answers, few)) >= 6


# ---------------------------------------------------------------- figures


def test_figures_hold_every_token():
    tokens = [f"w{i}" for i in range(60)]
    figure = plots.passage_logits(tokens, list(range(60)), list(range(60, 0, -1)), "t", answer=(3, 5))
    assert [t.get_text() for t in figure.axes[0].texts] == tokens
    figure = plots.tags_under_words(["Ann", "left"], {"true": ["B-PER", "O"], "model": ["O", "O"]}, "t")
    assert sorted(t.get_text() for t in figure.axes[0].texts) == sorted(["Ann", "left", "true", "model", "B-PER", "·", "·", "·"])
    plots.plt.close("all")


# ---------------------------------------------------------------- stored results


def test_stored_results_are_whole_and_agree_with_themselves():
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert stored["command"].startswith("python tests/runs/token_tasks.py")
    there = [len(tt.entities(s.tags)) for s in bl.datasets.ner("test")]
    for runs in stored["ner"].values():
        assert runs
        for run in runs:
            right, predicted, names = (sum(column) for column in zip(*run["sentences"]))
            assert [row[2] for row in run["sentences"]] == there
            assert run["f1"] == pytest.approx(tt.EntityScore(right, predicted, names).f1, abs=1e-4)
    empty = [not e.answer for e in bl.datasets.question_answering("test")]
    for runs in stored["qa"].values():
        assert runs
        for run in runs:
            f1 = [float(none) if margin > 0 else value * (not none) for none, margin, value in zip(empty, run["margin"], run["span_f1"], strict=True)]
            assert run["f1"] == pytest.approx(sum(f1) / len(f1), abs=1e-3)
            assert all(e <= f for e, f in zip(run["span_em"], run["span_f1"]))
    shown = stored["shown"]
    assert len(shown["tokens"]) == len(shown["start"]) == len(shown["end"])
