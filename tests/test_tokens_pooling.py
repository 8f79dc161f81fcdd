"""tokens and pooling against transformers and sentence-transformers, on real text."""

import warnings

import pytest
import torch

import bertlab as bl
from bertlab.datasets import documents

TEXTS = [sentence for document in documents()[::9] for sentence in document.sentences]


@pytest.fixture(scope="module")
def encoded():
    return bl.encode(TEXTS)


def test_encode_equals_plain_transformers(encoded):
    from transformers import AutoTokenizer, BertModel

    batch = AutoTokenizer.from_pretrained(bl.BERT)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = BertModel.from_pretrained(bl.BERT).eval()(**batch, output_hidden_states=True).hidden_states
    assert torch.equal(batch["input_ids"], encoded.input_ids)
    assert len(states) == len(encoded.hidden_states) == 7
    for ours, theirs in zip(encoded.hidden_states, states):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_pool_equals_sentence_transformers(encoded, mode):
    from sentence_transformers.sentence_transformer.modules import Pooling

    hidden, mask = encoded.hidden_states[-1], encoded.attention_mask
    theirs = Pooling(hidden.shape[-1], pooling_mode=mode)({"token_embeddings": hidden, "attention_mask": mask})
    torch.testing.assert_close(bl.pool(hidden, mask, mode), theirs["sentence_embedding"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_padding_never_changes_the_result(encoded, mode):
    hidden, mask = encoded.hidden_states[-1], encoded.attention_mask
    noise = torch.randn(len(mask), 9, hidden.shape[-1], generator=torch.Generator().manual_seed(0)) * 100
    longer = torch.cat([hidden, noise], 1)
    longer_mask = torch.cat([mask, torch.zeros(len(mask), 9, dtype=mask.dtype)], 1)
    torch.testing.assert_close(bl.pool(longer, longer_mask, mode), bl.pool(hidden, mask, mode), atol=1e-6, rtol=0)


def test_mean_without_the_mask_is_wrong(encoded):
    hidden, mask = encoded.hidden_states[-1], encoded.attention_mask
    padded = mask.sum(1) < mask.shape[1]
    wrong = bl.pool(hidden, torch.ones_like(mask), "mean")[padded]
    assert (wrong - bl.pool(hidden, mask, "mean")[padded]).abs().amax(1).min() > 0.01


def test_left_padding_is_pooled_right():
    hidden = torch.tensor([[[9.0], [1.0], [3.0]]])
    mask = torch.tensor([[0, 1, 1]])
    assert [bl.pool(hidden, mask, m).item() for m in ("cls", "mean", "max", "lasttoken")] == [1, 2, 3, 3]


@pytest.mark.parametrize(
    ("hidden", "mask", "mode", "words"),
    [
        (torch.zeros(2, 3, 4), torch.ones(2, 4), "mean", r"attention_mask must have shape \(2, 3\)"),
        (torch.zeros(3, 4), torch.ones(3, 4), "mean", r"not \(3, 4\)"),
        (torch.zeros(2, 3, 4), torch.tensor([[1, 1, 1], [0, 0, 0]]), "max", "all zeros for text 1"),
        (torch.zeros(2, 3, 4), torch.ones(2, 3), "average", "choose from cls"),
        (torch.zeros(2, 3, 4), None, "mean", "not NoneType"),
        ("text", torch.ones(1, 3), "mean", "not str"),
    ],
)
def test_bad_pooling_input_is_said_in_words(hidden, mask, mode, words):
    with pytest.raises(ValueError, match=words):
        bl.pool(hidden, mask, mode)


def test_register_pooler_adds_a_mode_and_protects_names():
    def first_two(hidden, attention_mask):
        return hidden[:, :2].mean(1)

    from bertlab import pooling

    bl.register_pooler("first_two", first_two)
    try:
        assert bl.pool(torch.ones(1, 3, 2), torch.ones(1, 3), "first_two").tolist() == [[1, 1]]
        with pytest.raises(ValueError, match="already"):
            bl.register_pooler("mean", first_two)
    finally:
        del pooling._POOLERS["first_two"]


def test_broken_plugin_does_not_break_the_course(monkeypatch):
    from importlib import metadata

    from bertlab import pooling

    broken = metadata.EntryPoint("broken", "no_such_module:pooler", "bertlab.poolers")
    taken = metadata.EntryPoint("mean", "torch:sum", "bertlab.poolers")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [broken, taken])
    pooling._load_plugins.cache_clear()
    with pytest.warns(UserWarning) as caught:
        modes = bl.pooling_modes()
    pooling._load_plugins.cache_clear()
    assert "broken" not in modes and "mean" in modes
    assert any("cannot be loaded" in str(w.message) for w in caught) and any("name is taken" in str(w.message) for w in caught)


@pytest.mark.parametrize("bad", ["", "   ", "\n\t"])
def test_empty_text_is_refused(bad):
    for call in (bl.encode, bl.inspect_tokens, bl.predict_masked):
        with pytest.raises(ValueError, match="at least one word"):
            call(bad)


@pytest.mark.parametrize("bad", [["a list"], 7, None, b"bytes"])
def test_what_is_no_string_is_refused(bad):
    with pytest.raises(ValueError, match="must be a string"):
        bl.predict_masked(bad)
    with pytest.raises(ValueError, match="must be a string"):
        bl.inspect_tokens(bad)


@pytest.mark.parametrize("bad", [[], ["fine", ""], ["fine", 3], {"a": 1}])
def test_bad_lists_are_refused(bad):
    with pytest.raises(ValueError, match="texts|must be a string"):
        bl.encode(bad)


def test_pairs_must_match():
    with pytest.raises(ValueError, match="as many of each"):
        bl.encode(["a", "b"], ["c"])


def test_600_words_are_cut_with_a_warning():
    with pytest.warns(UserWarning, match="BERT reads 512"):
        encoded = bl.encode("word " * 600)
    assert encoded.input_ids.shape == (1, 512)
    assert bl.inspect_tokens("word " * 600).cut == 90


def test_emoji_is_said_to_be_unknown_and_chinese_is_read():
    with pytest.warns(UserWarning, match=r"\[UNK\]"):
        bl.encode("I like it 🙂")
    assert bl.inspect_tokens("I like it 🙂").unknown == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert bl.encode("我喜欢茶").hidden_states[-1].shape[1] == 6


def test_word_vectors_find_the_word_and_say_where_it_is_missing():
    text = "The unbelievably steep bank gave way."
    vector = bl.word_vectors([text], "unbelievably")
    encoded = bl.encode(text)
    pieces = [i for i, t in enumerate(encoded.tokens[0]) if t in bl.inspect_tokens("unbelievably").tokens[1:-1]]
    torch.testing.assert_close(vector[0], encoded.hidden_states[-1][0, pieces].mean(0), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="does not occur"):
        bl.word_vectors(["No such thing."], "bank")
