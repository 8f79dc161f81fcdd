"""Masking and the two heads against transformers, on real text."""

import pytest
import torch

import bertlab as bl
from bertlab.checkpoints import load_tokenizer
from bertlab.datasets import documents
from bertlab.mlm import IGNORE


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(bl.BERT)


@pytest.fixture(scope="module")
def batch(tokenizer):
    texts = [" ".join(d.sentences) for d in documents()] * 6  # about 60,000 tokens
    return tokenizer(texts, padding=True, return_tensors="pt")


def test_shares_follow_the_paper(tokenizer, batch):
    ids = batch["input_ids"]
    masked = bl.mask_tokens(ids, tokenizer, seed=3)
    ordinary = ~torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    n, chosen = int(ordinary.sum()), masked.labels != IGNORE
    k = int(chosen.sum())
    assert n > 50_000
    assert abs(k / n - 0.15) < 4 * (0.15 * 0.85 / n) ** 0.5  # four standard errors
    is_mask = masked.input_ids[chosen] == tokenizer.mask_token_id
    kept = masked.input_ids[chosen] == ids[chosen]
    for share, expected in ((is_mask, 0.8), (kept, 0.1), (~is_mask & ~kept, 0.1)):
        assert abs(share.float().mean().item() - expected) < 4 * (expected * (1 - expected) / k) ** 0.5 + 1e-4


def test_special_tokens_and_the_rest_are_untouched(tokenizer, batch):
    ids = batch["input_ids"]
    masked = bl.mask_tokens(ids, tokenizer, probability=0.9, seed=0)
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    assert torch.equal(masked.input_ids[special], ids[special]) and (masked.labels[special] == IGNORE).all()
    left = masked.labels == IGNORE
    assert torch.equal(masked.input_ids[left], ids[left])
    assert torch.equal(masked.labels[~left], ids[~left])


def test_masking_is_seeded(tokenizer, batch):
    ids = batch["input_ids"]
    one, same, other = (bl.mask_tokens(ids, tokenizer, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.input_ids, same.input_ids) and torch.equal(one.labels, same.labels)
    assert not torch.equal(one.labels, other.labels)


def test_whole_words_are_hidden_whole(tokenizer):
    encoded = tokenizer(["unbelievably incomprehensible marmalade sandwiches"] * 200, return_tensors="pt")
    words = torch.tensor([[-1 if w is None else w for w in encoded.word_ids(i)] for i in range(200)])
    chosen = bl.mask_tokens(encoded["input_ids"], tokenizer, 0.5, word_ids=words, seed=0).labels != IGNORE
    pieces = words[0] == 1
    assert pieces.sum() > 1
    assert all(row[pieces].all() or not row[pieces].any() for row in chosen)
    assert 0.35 < chosen[:, pieces].float().mean() < 0.65


@pytest.mark.parametrize("options", [{"probability": 0}, {"probability": 1.5}, {"split": (0.8, 0.1, 0.2)}, {"word_ids": torch.zeros(1)}])
def test_bad_masking_is_refused(tokenizer, options):
    with pytest.raises(ValueError):
        bl.mask_tokens(torch.ones(1, 5, dtype=torch.long), tokenizer, **options)
    with pytest.raises(ValueError, match="integers"):
        bl.mask_tokens([1, 2], tokenizer)


def test_predictions_equal_plain_transformers(tokenizer):
    from transformers import BertForMaskedLM

    text = "The [MASK] sat on the [MASK]."
    batch = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        logits = BertForMaskedLM.from_pretrained(bl.BERT).eval()(**batch).logits
    ours = bl.predict_masked(text, top_k=7)
    assert len(ours) == 2
    for guesses, position in zip(ours, (batch["input_ids"][0] == tokenizer.mask_token_id).nonzero().flatten()):
        best = logits[0, position].softmax(-1).topk(7)
        assert [g.token for g in guesses] == tokenizer.convert_ids_to_tokens(best.indices.tolist())
        assert [g.probability for g in guesses] == pytest.approx(best.values.tolist(), abs=2e-6)


def test_predict_masked_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"no \[MASK\]"):
        bl.predict_masked("Nothing is hidden here.")
    with pytest.raises(ValueError, match="top_k"):
        bl.predict_masked("A [MASK].", top_k=0)
    with pytest.warns(UserWarning, match="512"), pytest.raises(ValueError, match="shorten"):
        bl.predict_masked("word " * 600 + "[MASK]")


def test_nsp_label_order_is_transformers(tokenizer):
    from transformers import BertForNextSentencePrediction

    a, b = "She opened the door.", "Then she stepped inside."
    batch = tokenizer(a, b, return_tensors="pt")
    model = BertForNextSentencePrediction.from_pretrained(bl.BERT).eval()
    with torch.inference_mode():
        output = model(**batch, labels=torch.tensor([0]))  # 0 = B follows A
    answer = bl.predict_next(a, b)
    assert answer.is_next == pytest.approx(float(torch.exp(-output.loss)), abs=2e-6)
    assert answer.label == int(output.logits.argmax())


def test_nsp_beats_chance_on_unrelated_sentences():
    pairs = bl.next_sentence_pairs(("next", "another source"), per_kind=100)
    answers = bl.predict_next_many([(p.sentence_a, p.sentence_b) for p in pairs])
    right = sum(a.label == p.label for a, p in zip(answers, pairs))
    assert right > 115  # three standard errors above 100 of 200


def test_batches_do_not_change_answers():
    pairs = [(p.sentence_a, p.sentence_b) for p in bl.next_sentence_pairs(("next",), per_kind=5)]
    together, alone = bl.predict_next_many(pairs), [bl.predict_next(*p) for p in pairs]
    assert [t.is_next for t in together] == pytest.approx([a.is_next for a in alone], abs=1e-5)


@pytest.mark.parametrize("pair", [("", "b"), ("a", "  "), (["a"], "b")])
def test_bad_pairs_are_refused(pair):
    with pytest.raises(ValueError, match="sentence_"):
        bl.predict_next(*pair)
