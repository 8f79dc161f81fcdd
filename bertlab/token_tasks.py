"""Named entities and extractive question answering: every token's own vector is the input, nothing is pooled.

Taught in notebooks/07_token_tasks.ipynb. Sources: Devlin et al. 2019, arXiv 1810.04805, sections 4.2, 4.3 (question
answering) and 5.3 (named entities); Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1 (exact match and F1).
"""

from __future__ import annotations

import random
import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers.modeling_outputs import TokenClassifierOutput

from .datasets import NerSentence, QaExample
from .inputs import number, sequence, short, whole
from .mlm import IGNORE
from .pooling import pool
from .tokens import check_text

KINDS = ("PER", "ORG", "LOC", "MISC")
TAGS = ("O", *(f"{prefix}-{kind}" for kind in KINDS for prefix in "BI"))

# ---------------------------------------------------------------- named entities


@dataclass(frozen=True, order=True)
class Entity:
    """A name: words start to end - 1 of a sentence, and its kind."""

    start: int
    end: int
    kind: str


def entities(tags: Sequence[str]) -> list[Entity]:
    """The names that BIO tags spell out. An I- that continues nothing begins a name, as in CoNLL's scorer.

    >>> entities(["B-PER", "I-PER", "O", "B-LOC", "I-ORG"])
    [Entity(start=0, end=2, kind='PER'), Entity(start=3, end=4, kind='LOC'), Entity(start=4, end=5, kind='ORG')]
    """
    found: list[Entity] = []
    for i, tag in enumerate(sequence(tags, "tags", "tags")):
        if not isinstance(tag, str) or tag not in TAGS:
            raise ValueError(f"{short(tag)} is no tag: use {', '.join(TAGS)}.")
        prefix, _, kind = tag.partition("-")
        if prefix == "I" and found and found[-1].end == i and found[-1].kind == kind:
            found[-1] = Entity(found[-1].start, i + 1, kind)
        elif prefix in "BI":
            found.append(Entity(i, i + 1, kind))
    return found


def tags_of(names: Sequence[Entity], length: int) -> list[str]:
    """The BIO tags of names in a sentence of `length` words: the way back from `entities`.

    >>> tags_of([Entity(1, 3, "LOC")], 4)
    ['O', 'B-LOC', 'I-LOC', 'O']
    """
    tags = ["O"] * length
    for name in names:
        tags[name.start : name.end] = [f"B-{name.kind}", *[f"I-{name.kind}"] * (name.end - name.start - 1)]
    return tags


@dataclass(frozen=True)
class EntityScore:
    """Counts of names: right ones, predicted ones, ones that are there. A name counts if both ends and its kind are right."""

    right: int
    predicted: int
    there: int

    @property
    def precision(self) -> float:
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.there if self.there else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.right / (self.predicted + self.there) if self.predicted + self.there else 0.0


def entity_score(true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], kinds: bool = True, only: str | None = None) -> EntityScore:
    """Score whole names, as seqeval's f1_score does.

    kinds  False asks only whether the two ends are right
    only   a kind: names of other kinds are left out on both sides

    >>> score = entity_score([["B-PER", "I-PER", "O"]], [["B-PER", "O", "O"]])
    >>> score.f1, score.predicted, score.there
    (0.0, 1, 1)
    """
    if [len(tags) for tags in true] != [len(tags) for tags in predicted]:
        raise ValueError("true and predicted must hold as many tags for every sentence: predict one tag a word, not one a piece.")
    right = guessed = there = 0
    for tags, guess in zip(true, predicted):
        a, b = (
            {(name.start, name.end, name.kind if kinds else "") for name in entities(sentence) if only in (None, name.kind)}
            for sentence in (tags, guess)
        )
        right, guessed, there = right + len(a & b), guessed + len(b), there + len(a)
    return EntityScore(right, guessed, there)


def ner_batch(words: Sequence[Sequence[str]], tokenizer, tags: Sequence[Sequence[str]] | None = None) -> dict[str, torch.Tensor]:
    """Words -> padded word pieces (B, T); with tags also labels (B, T).

    The first piece of a word carries its tag's number in TAGS; further pieces, [CLS], [SEP] and padding carry -100,
    which the loss leaves out.
    """
    batch = tokenizer([list(sentence) for sentence in words], is_split_into_words=True, padding=True, truncation=True, max_length=512, return_tensors="pt")
    tensors = dict(batch)
    if tags is not None:
        if [len(sentence) for sentence in words] != [len(sentence) for sentence in tags]:
            raise ValueError("Give one tag for every word of every sentence.")
        tensors["labels"] = torch.full(tensors["input_ids"].shape, IGNORE)
        for row, sentence in enumerate(tags):
            for position, word in first_pieces(batch.word_ids(row)).items():
                tensors["labels"][row, position] = TAGS.index(sentence[word])
    return tensors


def first_pieces(word_ids: Sequence[int | None]) -> dict[int, int]:
    """{position of a word's first piece: the word's number}.

    >>> first_pieces([None, 0, 1, 1, 2, None])
    {1: 0, 2: 1, 4: 2}
    """
    return {i: word for i, word in enumerate(word_ids) if word is not None and (i == 0 or word != word_ids[i - 1])}


def ner_loss(tokenizer) -> Callable:
    """The loss_of of bertlab.fine_tuning.fit for lists of NerSentence."""

    def loss_of(model, sentences: Sequence[NerSentence]) -> torch.Tensor:
        return model(**ner_batch([s.words for s in sentences], tokenizer, [s.tags for s in sentences])).loss

    return loss_of


@torch.inference_mode()
def tag_probabilities(model, tokenizer, words: Sequence[Sequence[str]], batch_size: int = 32) -> list[torch.Tensor]:
    """For every sentence (words, 9): the probabilities of TAGS, read at each word's first piece.

    A word that was cut off after 512 pieces is O.
    """
    result, words = [], [_words_of(sentence, n) for n, sentence in enumerate(sequence(words, "words", "sentences, each a list of words"))]
    for begin in range(0, len(words), whole(batch_size, "batch_size", 1)):
        part = words[begin : begin + batch_size]
        batch = tokenizer(part, is_split_into_words=True, padding=True, truncation=True, max_length=512, return_tensors="pt")
        probabilities = model(**batch).logits.float().softmax(-1)  # (B, T, 9)
        for row, sentence in enumerate(part):
            of_words = torch.eye(len(TAGS))[0].repeat(len(sentence), 1)  # O, until seen
            for position, word in first_pieces(batch.word_ids(row)).items():
                of_words[word] = probabilities[row, position]
            result.append(of_words)
    return result


def _words_of(sentence: Sequence[str], place: int) -> list[str]:
    """The words of a sentence; ValueError if they are none, or if one is no text. An empty one is a place without a word."""
    words = sequence(sentence, f"words[{place}]", "words")
    if not words:
        raise ValueError(f"words[{place}] is empty: a sentence needs at least one word.")
    return [word if word == "" else check_text(word, f"a word of words[{place}]") for word in words]


def predict_tags(model, tokenizer, words: Sequence[Sequence[str]], batch_size: int = 32) -> list[list[str]]:
    """One tag for every word: the most probable one."""
    return [[TAGS[i] for i in p.argmax(-1).tolist()] for p in tag_probabilities(model, tokenizer, words, batch_size)]


class MeanForEveryToken(torch.nn.Module):
    """A token classifier whose head gets the sentence's mean vector at every token: what pooling would leave.

    model   a BertForTokenClassification; its encoder and head are used
    """

    def __init__(self, model):
        super().__init__()
        self.bert, self.dropout, self.classifier = model.bert, model.dropout, model.classifier

    def forward(self, labels: torch.Tensor | None = None, **batch: torch.Tensor) -> TokenClassifierOutput:
        hidden = self.bert(**batch).last_hidden_state  # (B, T, H)
        mean = pool(hidden, batch["attention_mask"], "mean")  # (B, H)
        logits = self.classifier(self.dropout(mean))[:, None].expand(-1, hidden.shape[1], -1)  # (B, T, tags)
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.flatten(), ignore_index=IGNORE)
        return TokenClassifierOutput(loss=loss, logits=logits)


def gazetteer(sentences: Sequence[NerSentence]) -> dict[tuple[str, ...], str]:
    """A list of names: {words in lower case: the kind that the sentences give it most often}.

    >>> gazetteer([NerSentence(("Rome", "fell"), ("B-LOC", "O"))])
    {('rome',): 'LOC'}
    """
    counts: defaultdict[tuple[str, ...], Counter] = defaultdict(Counter)
    for sentence in sentences:
        for name in entities(sentence.tags):
            counts[_lower(sentence.words[name.start : name.end])][name.kind] += 1
    return {name: kinds.most_common(1)[0][0] for name, kinds in counts.items()}


def tag_by_gazetteer(words: Sequence[str], names: Mapping[tuple[str, ...], str]) -> list[str]:
    """Look names up, longest first: the baseline that knows words but no sentence.

    >>> tag_by_gazetteer(["In", "New", "York"], {("york",): "LOC", ("new", "york"): "LOC"})
    ['O', 'B-LOC', 'I-LOC']
    """
    longest, found, i = max(map(len, names), default=0), [], 0
    while i < len(words):
        end = next((j for j in range(min(len(words), i + longest), i, -1) if _lower(words[i:j]) in names), None)
        if end:
            found.append(Entity(i, end, names[_lower(words[i:end])]))
        i = end or i + 1
    return tags_of(found, len(words))


def tag_by_capitals(words: Sequence[str], names: Mapping[tuple[str, ...], str], kind: str = "PER") -> list[str]:
    """Every run of capitalised words after the first word is a name; its kind from `names`, else `kind`.

    It sees what an uncased BERT cannot: the capitals.

    >>> tag_by_capitals(["She", "left", "New", "York", "."], {("new", "york"): "LOC"})
    ['O', 'O', 'B-LOC', 'I-LOC', 'O']
    """
    found: list[Entity] = []
    for i, word in enumerate(words):
        if i and word[:1].isupper():
            if found and found[-1].end == i:
                found[-1] = Entity(found[-1].start, i + 1, kind)
            else:
                found.append(Entity(i, i + 1, kind))
    return tags_of([Entity(n.start, n.end, names.get(_lower(words[n.start : n.end]), kind)) for n in found], len(words))


def _lower(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word.lower() for word in words)


# ---------------------------------------------------------------- question answering


@dataclass(frozen=True)
class Answer:
    """What a model answers; text is "" and start, end are -1 where it says that there is no answer.

    start, end   characters: text == context[start:end]
    score        start logit + end logit of the best valid span
    null_score   the same two logits at [CLS]: the score of "no answer"
    """

    text: str
    start: int
    end: int
    score: float
    null_score: float

    @property
    def margin(self) -> float:
        """How far "no answer" is ahead: above the threshold the answer is ""."""
        return self.null_score - self.score


def answer_tokens(offsets: Sequence[Sequence[int]], sequence_ids: Sequence[int | None], start: int, end: int) -> tuple[int, int]:
    """Characters start to end - 1 of the passage -> its first and last token. (0, 0), that is [CLS], for start -1.

    offsets       a token's first character and the one after its last (return_offsets_mapping=True)
    sequence_ids  0 question, 1 passage, None special tokens
    Raises ValueError if no token of the passage covers them: the passage was cut before the answer.

    >>> answer_tokens([(0, 0), (0, 3), (0, 0), (0, 2), (3, 8), (0, 0)], [None, 0, None, 1, 1, None], 3, 8)
    (4, 4)
    """
    if start < 0:
        return 0, 0
    inside = [i for i, (a, b) in enumerate(offsets) if sequence_ids[i] == 1 and a < end and b > start]
    if not inside or offsets[inside[0]][0] > start or offsets[inside[-1]][1] < end:
        raise ValueError(f"No tokens cover characters {start} to {end}: the passage was cut before its answer. Raise max_length or split the passage.")
    return inside[0], inside[-1]


def qa_batch(examples: Sequence[QaExample], tokenizer, max_length: int = 384) -> dict[str, torch.Tensor]:
    """`[CLS] question [SEP] passage [SEP]`, padded (B, T), with start_positions and end_positions (B,).

    Without an answer both are 0, the place of [CLS] (BERT paper, section 4.3). Only passages are cut.
    """
    batch = _tokenized(examples, tokenizer, max_length)
    where = [
        answer_tokens(batch["offset_mapping"][i].tolist(), batch.sequence_ids(i), e.start, e.start + len(e.answer)) for i, e in enumerate(examples)
    ]
    tensors = {name: value for name, value in batch.items() if name != "offset_mapping"}
    return {**tensors, "start_positions": torch.tensor([s for s, _ in where]), "end_positions": torch.tensor([e for _, e in where])}


def _tokenized(examples: Sequence[QaExample], tokenizer, max_length: int):
    texts = [check_text(e.question, "question") for e in examples], [check_text(e.context, "context") for e in examples]
    longest = max(len(ids) for ids in tokenizer(texts[0], verbose=False)["input_ids"]) + 1
    if longest >= max_length:
        raise ValueError(f"A question takes {longest} of the {max_length} tokens that are read, so nothing of its passage is left: shorten the question.")
    return tokenizer(*texts, padding=True, truncation="only_second", max_length=max_length, return_offsets_mapping=True, return_tensors="pt")


def qa_loss(tokenizer, max_length: int = 384) -> Callable:
    """The loss_of of bertlab.fine_tuning.fit for lists of QaExample."""

    def loss_of(model, examples: Sequence[QaExample]) -> torch.Tensor:
        return model(**qa_batch(examples, tokenizer, max_length)).loss

    return loss_of


def best_span(start: torch.Tensor, end: torch.Tensor, allowed: torch.Tensor, longest: int = 15) -> tuple[int, int, float]:
    """The valid span with the highest start + end logit: (first token, last token, score).

    start, end  (T,) logits
    allowed     (T,) True for the tokens of the passage
    longest     most tokens in an answer
    Valid: both tokens allowed, the end not before the start, not too long.

    >>> start, end = torch.tensor([0.0, 1.0, 5.0]), torch.tensor([9.0, 2.0, 3.0])
    >>> best_span(start, end, torch.tensor([False, True, True]))
    (2, 2, 8.0)
    """
    if not allowed.any():
        raise ValueError("No token is allowed: nothing of the passage is left.")
    ones = torch.ones(len(start), len(start), dtype=torch.bool, device=start.device)
    valid = allowed[:, None] & allowed[None, :] & ones.triu() & ones.tril(longest - 1)  # (T, T)
    scores = (start[:, None] + end[None, :]).masked_fill(~valid, float("-inf"))
    first, last = divmod(int(scores.argmax()), len(start))
    return first, last, scores[first, last].item()


@torch.inference_mode()
def answer_questions(
    model, tokenizer, examples: Sequence[QaExample], threshold: float = 0.0, *, longest: int = 15, max_length: int = 384, batch_size: int = 16
) -> list[Answer]:
    """The best valid span of each passage, or "" where [CLS] is more than `threshold` ahead (BERT paper, section 4.3).

    threshold=float("inf") never says "no answer". The true answers in `examples` are not looked at.
    """
    answers, examples = [], sequence(examples, "examples", "QaExamples")
    number(threshold, "threshold"), whole(longest, "longest", 1), whole(max_length, "max_length", 8, 512)
    for begin in range(0, len(examples), whole(batch_size, "batch_size", 1)):
        part = examples[begin : begin + batch_size]
        batch = _tokenized(part, tokenizer, max_length)
        offsets = batch.pop("offset_mapping")
        output = model(**batch)
        for row, example in enumerate(part):
            s, e = output.start_logits[row], output.end_logits[row]  # (T,)
            first, last, score = best_span(s, e, torch.tensor([i == 1 for i in batch.sequence_ids(row)]), longest)
            a, b = int(offsets[row, first, 0]), int(offsets[row, last, 1])
            answers.append(with_threshold(Answer(example.context[a:b], a, b, score, (s[0] + e[0]).item()), threshold))
    return answers


def with_threshold(answer: Answer, threshold: float) -> Answer:
    """The answer, or its "no answer" form if [CLS] is more than `threshold` ahead."""
    return Answer("", -1, -1, answer.score, answer.null_score) if answer.margin > threshold else answer


def normal_words(text: str) -> list[str]:
    """Words in lower case without punctuation and articles: what SQuAD compares.

    >>> normal_words("The  old mill's wheel.")
    ['old', 'mills', 'wheel']
    """
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return [word for word in text.split() if word not in ("a", "an", "the")]


def exact_match(predicted: str, true: str) -> float:
    """1.0 if both are the same words, else 0.0; two empty answers match.

    >>> exact_match("the red door", "Red door."), exact_match("", "red door")
    (1.0, 0.0)
    """
    return float(normal_words(predicted) == normal_words(true))


def answer_f1(predicted: str, true: str) -> float:
    """Harmonic mean of precision and recall over the words that both answers share.

    >>> answer_f1("the big red door", "red door")
    0.8
    """
    a, b = normal_words(predicted), normal_words(true)
    if not a or not b:
        return float(a == b)
    shared = sum((Counter(a) & Counter(b)).values())
    return 2 * shared / (len(a) + len(b))


_FUNCTION_WORDS = frozenset(
    "a an the of in on at to for from by with and or but as is are was were be been has have had do does did it its he she they his her their "
    "that this these those who whom whose what which when where why how much many long far than then not no so if into over after before about "
    "there here i me my we us our you your him them because while until can could may might must shall should will would up down out off".split()
)


_NUMBER = re.compile(r"\d|^(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|\w+ty|half|hundred|thousand|million)\b", re.IGNORECASE)
_ASKS_NUMBER = re.compile(r"\b(?:how (?:many|much|long|far|old|often|tall|high)|when|year|date)\b", re.IGNORECASE)
_ASKS_NAME = re.compile(r"\b(?:who|whose|whom|where|city|country)\b", re.IGNORECASE)


def answer_by_overlap(example: QaExample, longest: int = 8) -> str:
    """The baseline: the sentence that shares most words with the question, and in it the longest run of new words.

    Where the question asks for a number or a name, a run that holds one goes before longer ones.

    >>> answer_by_overlap(QaExample("1", "Tom came home. The mill was built by Ann Lee.", "Who built the mill?", "", -1))
    'Ann Lee'
    """
    asked = set(normal_words(example.question)) - _FUNCTION_WORDS
    best = max(sentences_of(example.context), key=lambda s: len(asked & set(normal_words(s))))
    runs: list[list[str]] = [[]]
    for word in best.split():
        plain = "".join(normal_words(word))
        if not plain or plain in asked or plain in _FUNCTION_WORDS:
            runs.append([])
        else:
            runs[-1].append(word)
            if word[-1] in ",;:":
                runs.append([])
    if _ASKS_NUMBER.search(example.question):
        runs = [run for run in runs if any(map(_NUMBER.search, run))] or runs
    elif _ASKS_NAME.search(example.question):
        runs = [run for run in runs if any(word[0].isupper() for word in run)] or runs
    return " ".join(max(runs, key=len)[:longest]).strip(string.punctuation)


def sentences_of(text: str) -> list[str]:
    """Cut a text after ., ! and ? (roughly: "Dr. Lee" is cut too).

    >>> sentences_of("It rained. Why? Nobody knew.")
    ['It rained.', 'Why?', 'Nobody knew.']
    """
    return re.split(r"(?<=[.!?])\s+", text.strip())


def cloze_questions(
    texts: Sequence[str], per_text: int = 2, seed: int = 0, *, sentences: int = 4, keep: float = 0.6, no_answer: float = 0.15
) -> list[QaExample]:
    """Questions made without an author: hide a span of a sentence and ask for it with some of the other words.

    sentences  how many neighbouring sentences of the text make the passage
    keep       the share of the sentence's other words that the question keeps
    no_answer  the share of questions that are put to another text, so that the answer is ""
    Source: the noisy clozes of Lewis et al. 2019, arXiv 1906.04980, section 2, made simpler: a question word and the kept words.

    >>> text = "The mill was built in 1834 by Ann Lee. It burned down twice before the war."
    >>> question = cloze_questions([text], per_text=1, keep=1, no_answer=0)[0]
    >>> question.context[question.start:].startswith(question.answer)
    True
    """
    rng, made = random.Random(seed), []

    def passage(text: str) -> str:
        parts = sentences_of(text)
        first = rng.randrange(max(1, len(parts) - sentences + 1))
        return " ".join(parts[first : first + sentences])

    for number, text in enumerate(texts):
        for k in range(per_text):
            context = passage(text)
            if (found := _hide_span(context, rng, keep)) is None:
                continue
            question, answer, start = found
            if rng.random() < no_answer and len(texts) > 1:
                other = texts[(number + rng.randrange(1, len(texts))) % len(texts)]
                made.append(QaExample(f"cloze-{number}-{k}", passage(other), question, "", -1))
            else:
                made.append(QaExample(f"cloze-{number}-{k}", context, question, answer, start))
    return made


def _hide_span(context: str, rng: random.Random, keep: float) -> tuple[str, str, int] | None:
    """(question, answer, the answer's first character), or None where a random sentence offers no span."""
    sentence = rng.choice(sentences_of(context))
    words = [(m.start(), m.end(), m.group()) for m in re.finditer(r"[^\s.,;:!?\"()]+", sentence)]
    length = rng.choice((1, 1, 2, 2, 3, 4))
    places = [
        i
        for i in range(len(words) - length + 1)
        if words[i][2].lower() not in _FUNCTION_WORDS - {"the", "a"}
        and words[i + length - 1][2].lower() not in _FUNCTION_WORDS
        and all(words[j + 1][0] - words[j][1] == 1 for j in range(i, i + length - 1))  # nothing but spaces between
    ]
    if len(words) < 6 or not places:
        return None
    i = rng.choice(places)
    answer = sentence[words[i][0] : words[i + length - 1][1]]
    kept = [w for j, (_, _, w) in enumerate(words) if not i <= j < i + length and rng.random() < keep]
    if len(kept) < 3:
        return None
    number, name = answer[0].isdigit(), answer[0].isupper() and i > 0
    asks = rng.choice(("when", "how many") if number else ("who", "where", "which") if name else ("what", "what", "which"))
    return f"{asks} {' '.join(kept)}?", answer, context.index(sentence) + words[i][0]
