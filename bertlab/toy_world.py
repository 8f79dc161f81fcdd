"""A little invented world with rules, so that a tiny BERT can learn its language in a minute.

Taught in notebooks/05_pretraining.ipynb; notebook 08 tunes the same tiny BERT for similarity. Everything is generated
from a seed, nothing is stored. The rules:

    people    names that end in a are women ("she"), names that end in o are men ("he")
    things    each belongs to one kind, has one fixed property, and some have two names (spade, shovel)
    places    each has one job and one product
    seasons   each has its weather
    events    who gives, sells, helps or walks; each can be worded in several ways and has one consequence

A document is a short text about two people. A text can be followed by looking at names and roles; word counts alone
do not tell who has the spade in the end.
"""

from __future__ import annotations

import dataclasses
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .datasets import Document, SimilarityPair, split_of

WOMEN = ("Mira", "Lena", "Tova", "Sela", "Dora")
MEN = ("Tomo", "Karo", "Bilo", "Nico", "Hugo")
PEOPLE = (*WOMEN, *MEN)

# kind -> things; a thing is its names (the same thing in other words) and what is always true of it
THINGS = {
    "fruit": {("plum",): "is purple", ("cherry",): "is red", ("pear",): "is green"},
    "tool": {("spade", "shovel"): "digs", ("axe", "hatchet"): "chops", ("broom",): "sweeps"},
    "animal": {("dog", "hound"): "barks", ("cat",): "meows", ("hen", "chicken"): "clucks"},
}
PLACES = {  # place -> (job, product)
    "bakery": ("baker", "bread"),
    "mill": ("miller", "flour"),
    "forge": ("smith", "knives"),
    "harbour": ("fisher", "nets"),
}
SEASONS = {"winter": ("snow falls", "cold"), "spring": ("rain falls", "wet"), "summer": ("the sun shines", "hot"), "autumn": ("the wind blows", "cool")}
KIND_OF = {name: kind for kind, things in THINGS.items() for names in things for name in names}
NAMES_OF = {name: names for things in THINGS.values() for names in things for name in names}
TRUE_OF = {name: fact for things in THINGS.values() for names, fact in things.items() for name in names}

SOURCES = ("give", "sell", "help", "walk")  # an event's action; also the documents' sources
_WORDINGS = {
    "give": (
        "{who} gave the {thing} to {whom} at the {place}.",
        "{who} handed {whom} the {thing} at the {place}.",
        "at the {place} {whom} got the {thing} from {who}.",
        "{whom} received the {thing} from {who} at the {place}.",
    ),
    "sell": (
        "{who} sold the {thing} to {whom} at the {place}.",
        "{whom} bought the {thing} from {who} at the {place}.",
        "at the {place} {whom} paid {who} for the {thing}.",
    ),
    "help": (
        "{who} helped {whom} at the {place}.",
        "{whom} was helped by {who} at the {place}.",
        "at the {place} {who} lent {whom} a hand.",
    ),
    "walk": (
        "{who} walked from the {origin} to the {place}.",
        "{who} left the {origin} and went to the {place}.",
        "from the {origin} {who} came to the {place}.",
    ),
}


@dataclass(frozen=True)
class Event:
    """Something that happens: action is one of SOURCES; whom, thing and origin are "" where the action has none.

    thing is the first of its names, such as "spade" for spade and shovel.
    """

    action: str
    who: str
    place: str
    whom: str = ""
    thing: str = ""
    origin: str = ""


@dataclass(frozen=True)
class EntailmentPair:
    """Does the hypothesis follow from the premise? label 1 = yes, 0 = no; kind says what it asks for.

    kind is "what" (which kind of thing), "season" (how it feels), "work" (what one makes), "who" (who has it now) or
    "where" (where one is now). The first three ask what the world is like, the last two what happened.
    """

    premise: str
    hypothesis: str
    label: int
    kind: str


@dataclass(frozen=True)
class ClozeQuestion:
    """A text with one [MASK], the word that belongs there, and the kind of rule that one must know."""

    text: str
    answer: str
    kind: str


# ---------------------------------------------------------------- events and their wordings


def random_event(rng: random.Random, action: str) -> Event:
    """An event of this action; `rng` draws the people, the places and the thing."""
    who, whom = rng.sample(PEOPLE, 2)
    place, origin = rng.sample(list(PLACES), 2)
    if action == "walk":
        return Event(action, who, place, origin=origin)
    return Event(action, who, place, whom, "" if action == "help" else _thing(rng))


def wordings(event: Event, rng: random.Random) -> list[str]:
    """All wordings of one event in a random order; a thing that has two names gets either.

    >>> sorted(wordings(Event("give", "Mira", "mill", "Tomo", "plum"), random.Random(0)))[1:3]
    ['Mira gave the plum to Tomo at the mill.', 'Mira handed Tomo the plum at the mill.']
    """
    patterns = _WORDINGS[event.action]
    return [_sentence(pattern, rng, event) for pattern in rng.sample(patterns, len(patterns))]


def _thing(rng: random.Random, kind: str | None = None, other_than: str = "") -> str:
    """The first name of a thing, of this kind if one is given."""
    kind = kind or rng.choice(list(THINGS))
    return rng.choice([names[0] for names in THINGS[kind] if other_than not in names])


def _sentence(pattern: str, rng: random.Random, event: Event, **more: str) -> str:
    fields = dataclasses.asdict(event) | more
    if fields["thing"]:
        fields["thing"] = rng.choice(NAMES_OF[fields["thing"]])
    text = pattern.format(**fields)
    return text[0].upper() + text[1:]


def pronoun(name: str) -> str:
    """
    >>> pronoun("Mira"), pronoun("Tomo")
    ('she', 'he')
    """
    return "she" if name.endswith("a") else "he"


# ---------------------------------------------------------------- documents, to pretrain on


def documents(n: int = 4000, seed: int = 0) -> list[Document]:
    """n short texts of 5 to 9 sentences about two people each; source is the action of their main event.

    >>> text = documents(1, seed=1)[0]
    >>> text.source in SOURCES and 5 <= len(text.sentences) <= 9
    True
    """
    rng = random.Random(f"documents {seed}")
    return [_document(rng, number, rng.choice(SOURCES)) for number in range(n)]


def _document(rng: random.Random, number: int, source: str) -> Document:
    main = random_event(rng, source)
    one, other = main.who, main.whom or rng.choice([name for name in PEOPLE if name != main.who])
    place = main.origin or main.place
    sentences = (_season(rng, place) if rng.random() < 0.5 else _work(one, place)) + _episode(rng, main)
    for _ in range(rng.choice((1, 2))):
        event = random_event(rng, rng.choice(SOURCES))
        who, whom = rng.sample((one, other), 2)
        sentences += _episode(rng, dataclasses.replace(event, who=who, whom=event.whom and whom))
    return Document(f"toy-{number}", source, f"{one} and {other}", tuple(sentences[:9]))


def _season(rng: random.Random, place: str) -> list[str]:
    season = rng.choice(list(SEASONS))
    weather, feel = SEASONS[season]
    last = f"It is {feel} at the {place}."
    return [rng.choice((f"It is {season} and {weather}.", f"{weather[0].upper() + weather[1:]} in {season}.")), last]


def _work(who: str, place: str) -> list[str]:
    job, product = PLACES[place]
    return [f"{who} is the {job} and works at the {place}.", f"{pronoun(who).capitalize()} makes {product} there."]


def _episode(rng: random.Random, event: Event) -> list[str]:
    """An event, its consequence, and often something that is always true."""
    sentences = [wordings(event, rng)[0], consequence(event, rng)]
    if event.thing:
        fact = rng.choice((TRUE_OF[event.thing], f"is {_a(KIND_OF[event.thing])}"))
        sentences.append(_sentence("the {thing} {fact}.", rng, event, fact=fact))
    elif event.action == "walk" and rng.random() < 0.7:
        job, product = PLACES[event.place]
        sentences.append(f"There the {job} makes {product}.")
    return sentences


def consequence(event: Event, rng: random.Random) -> str:
    """What is true after the event.

    >>> consequence(Event("walk", "Mira", "mill", origin="forge"), random.Random(0))
    'Now Mira is at the mill.'
    """
    patterns = {
        "give": ("now {whom} has the {thing}.", "now the {thing} belongs to {whom}."),
        "sell": ("now {whom} has the {thing}.", "now the {thing} belongs to {whom}."),
        "help": ("{whom} thanked {who}.",),
        "walk": ("now {who} is at the {place}.",),
    }
    return _sentence(rng.choice(patterns[event.action]), rng, event)


def write_text(folder: str | Path, n: int = 4000, seed: int = 0) -> list[Path]:
    """The documents in BERT's layout, a file a source: what `TextCache.build` reads.

    One sentence a line, a blank line between documents.
    """
    folder, paths = Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    texts = documents(n, seed)
    for source in SOURCES:
        paths.append(folder / f"{source}.txt")
        paths[-1].write_text("\n\n".join("\n".join(d.sentences) for d in texts if d.source == source) + "\n", encoding="utf-8")
    return paths


# ---------------------------------------------------------------- tasks on sentence pairs


def entailment_pairs(n: int, seed: int = 0, split: str | None = None) -> list[EntailmentPair]:
    """n pairs, half of each label and a fifth of each kind; split as in bertlab.datasets ("train", "test", None).

    A "no" has the same words as a "yes" except for one, which stands for another person, place or kind. So the
    hypothesis alone gives nothing away, and neither do shared words.

    >>> pair = entailment_pairs(1, seed=1)[0]
    >>> pair.label, pair.premise, pair.hypothesis
    (1, 'At the bakery Tova got the broom from Mira.', 'Now Tova has a tool.')
    """
    makers = {"what": _what, "season": _feel, "work": _makes, "who": _who, "where": _where}

    def draw(rng: random.Random, number: int) -> EntailmentPair:
        kind = list(makers)[number % 5]
        label = 1 - number // 5 % 2
        return EntailmentPair(*makers[kind](rng, label), label, kind)

    return _draw(draw, lambda p: f"{p.premise}\n{p.hypothesis}", n, f"entailment {seed}", split)


def _who(rng: random.Random, label: int) -> tuple[str, str]:
    event = random_event(rng, rng.choice(("give", "sell")))
    owner = event.whom if label else event.who
    return wordings(event, rng)[0], _sentence("now {owner} has the {thing}.", rng, event, owner=owner)


def _what(rng: random.Random, label: int) -> tuple[str, str]:
    event = random_event(rng, rng.choice(("give", "sell")))
    kind = KIND_OF[event.thing]
    said = kind if label else rng.choice([k for k in THINGS if k != kind])
    return wordings(event, rng)[0], f"Now {event.whom} has {_a(said)}."


def _where(rng: random.Random, label: int) -> tuple[str, str]:
    event = random_event(rng, "walk")
    return wordings(event, rng)[0], f"Now {event.who} is at the {event.place if label else event.origin}."


def _feel(rng: random.Random, label: int) -> tuple[str, str]:
    event = random_event(rng, "walk")
    opening, hypothesis = _season(rng, event.place)
    if not label:
        feel = next(feel for weather, feel in SEASONS.values() if weather in opening.lower())
        hypothesis = hypothesis.replace(feel, rng.choice([f for _, f in SEASONS.values() if f != feel]))
    return f"{opening} {wordings(event, rng)[0]}", hypothesis


def _makes(rng: random.Random, label: int) -> tuple[str, str]:
    event = random_event(rng, "help")
    said = event.place if label else rng.choice([p for p in PLACES if p != event.place])
    first, second = _work(event.who, event.place)
    return f"{wordings(event, rng)[0]} {first}", second.replace(PLACES[event.place][1], PLACES[said][1])


def similarity(a: Event, b: Event) -> float:
    """The grade of two events, 0 to 5, by rule.

    5  the same event
    4  only the place differs (where one walks from)
    3  the thing is another of the same kind; or given instead of sold; or another place is walked to
    2  the roles are swapped, or the thing is of another kind
    1  only the people are the same, or only what happens and with what
    0  nothing of this is the same
    Several differences at once add up, down to 1.

    >>> gift = Event("give", "Mira", "mill", "Tomo", "plum")
    >>> swapped = Event("give", "Tomo", "mill", "Mira", "plum")
    >>> similarity(gift, gift), similarity(gift, swapped)
    (5.0, 2.0)
    """
    transfers = ("give", "sell")
    same_action = a.action == b.action or (a.action in transfers and b.action in transfers)
    if {a.who, a.whom} != {b.who, b.whom}:
        return float(bool(a.thing) and a.action == b.action and a.thing == b.thing)
    if not same_action:
        return 1.0
    lost = 3 * (a.who != b.who) + 2 * (a.action != b.action)
    if a.thing != b.thing:
        lost += 2 if KIND_OF[a.thing] == KIND_OF[b.thing] else 3
    lost += (2 if a.action == "walk" else 1) * (a.place != b.place) + (a.origin != b.origin)
    return float(max(1, 5 - lost))


def similarity_pairs(n: int, seed: int = 0, split: str | None = None) -> list[SimilarityPair]:
    """n pairs of sentences about two events with their grade by `similarity`, as many of each grade from 0 to 5.

    split  "train", "test" (half each, by the SHA-1 of the pair's text) or None: no pair is in both, whatever the seeds.
    kind   what differs: "wording", "place", "thing", "action", "roles", "kind of thing", "event", "people", "everything"

    >>> [pair.grade for pair in similarity_pairs(6)]
    [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    """
    return _draw(_similarity_pair, lambda p: f"{p.sentence_a}\n{p.sentence_b}", n, f"similarity {seed}", split)


def _similarity_pair(rng: random.Random, number: int) -> SimilarityPair:
    wanted = 5 - number % 6
    a = random_event(rng, rng.choice(("give", "sell")))
    kind = rng.choice({5: ("wording",), 4: ("place",), 3: ("thing", "action"), 2: ("roles", "kind of thing"), 1: ("event", "people"), 0: ("everything",)}[wanted])
    change = {
        "wording": lambda: a,
        "place": lambda: dataclasses.replace(a, place=rng.choice([p for p in PLACES if p != a.place])),
        "thing": lambda: dataclasses.replace(a, thing=_thing(rng, KIND_OF[a.thing], a.thing)),
        "action": lambda: dataclasses.replace(a, action="sell" if a.action == "give" else "give"),
        "roles": lambda: dataclasses.replace(a, who=a.whom, whom=a.who),
        "kind of thing": lambda: dataclasses.replace(a, thing=_thing(rng, rng.choice([k for k in THINGS if k != KIND_OF[a.thing]]))),
        "event": lambda: dataclasses.replace(random_event(rng, "help"), who=a.who, whom=a.whom),
        "people": lambda: _others(rng, a),
        "everything": lambda: _others(rng, random_event(rng, rng.choice(SOURCES))),
    }[kind]
    b = change()
    while similarity(a, b) != wanted:  # by chance something else came out the same
        b = change()
    sentence_a = wordings(a, rng)[0]
    sentence_b = next(text for text in wordings(b, rng) if text != sentence_a)
    return SimilarityPair(sentence_a, sentence_b, float(wanted), kind)


def _others(rng: random.Random, event: Event) -> Event:
    """The same event with two other people."""
    who, whom = rng.sample([name for name in PEOPLE if name not in (event.who, event.whom)], 2)
    return dataclasses.replace(event, who=who, whom=event.whom and whom)


def _draw(draw: Callable, text_of: Callable, n: int, seed: str, split: str | None) -> list:
    """n different items; those of the other split are drawn again, so each split is balanced like the whole."""
    if split not in (None, "train", "test"):
        raise ValueError(f"split is 'train', 'test' or None, not {split!r}.")
    rng, items = random.Random(seed), {}
    for _ in range(100 * n + 100):
        if len(items) == n:
            return list(items.values())
        item = draw(rng, len(items))
        if split is None or split_of(text_of(item), test=0.5) == split:
            items.setdefault(text_of(item), item)
    raise ValueError(f"This little world does not have {n} different pairs of this sort: ask for fewer.")


def _a(noun: str) -> str:
    """
    >>> _a("animal"), _a("tool")
    ('an animal', 'a tool')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


# ---------------------------------------------------------------- hidden words with one right answer


def cloze_questions(n: int, seed: int = 0) -> list[ClozeQuestion]:
    """n sentences with one [MASK] and the only word that the world's rules allow there.

    kind is "fact" (what is true of a thing), "season", "work" (what a place makes), "pronoun" (she or he),
    "person" (who has it now, who thanked) or "place" (where one is now), in turn.

    >>> [question.kind for question in cloze_questions(6)]
    ['fact', 'season', 'work', 'pronoun', 'person', 'place']
    """
    rng = random.Random(f"cloze {seed}")
    makers = (_fact, _weather, _product, _gender, _person, _place)
    return [makers[number % 6](rng) for number in range(n)]


def _fact(rng: random.Random) -> ClozeQuestion:
    name = rng.choice(list(TRUE_OF))
    *before, answer = TRUE_OF[name].split()
    return ClozeQuestion(" ".join(["The", name, *before, "[MASK]."]), answer, "fact")


def _weather(rng: random.Random) -> ClozeQuestion:
    season = rng.choice(list(SEASONS))
    return ClozeQuestion(f"It is [MASK] and {SEASONS[season][0]}.", season, "season")


def _product(rng: random.Random) -> ClozeQuestion:
    place = rng.choice(list(PLACES))
    job, product = PLACES[place]
    return ClozeQuestion(f"There the {job} makes [MASK].", product, "work")


def _gender(rng: random.Random) -> ClozeQuestion:
    name, place = rng.choice(PEOPLE), rng.choice(list(PLACES))
    job, product = PLACES[place]
    return ClozeQuestion(f"{name} is the {job} and works at the {place}. [MASK] makes {product} there.", pronoun(name), "pronoun")


def _person(rng: random.Random) -> ClozeQuestion:
    event = random_event(rng, rng.choice(("give", "sell", "help")))
    after = "[MASK] thanked {who}." if event.action == "help" else "now [MASK] has the {thing}."
    return ClozeQuestion(f"{wordings(event, rng)[0]} {_sentence(after, rng, event)}", event.whom.lower(), "person")


def _place(rng: random.Random) -> ClozeQuestion:
    event = random_event(rng, "walk")
    return ClozeQuestion(f"{wordings(event, rng)[0]} Now {event.who} is at the [MASK].", event.place, "place")


def score_cloze(model, tokenizer, questions: Sequence[ClozeQuestion]) -> dict[str, float]:
    """The share of questions whose answer is the first guess of a BertForPreTraining, by kind.

    Questions whose answer is no single piece of the vocabulary are left out.
    """
    import torch

    asked = [q for q in questions if q.answer in tokenizer.get_vocab()]
    batch = tokenizer([q.text for q in asked], padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model.eval().bert(**batch).last_hidden_state  # (B, T, H)
        logits = model.cls.predictions(hidden[batch["input_ids"] == tokenizer.mask_token_id])  # (B, V)
    guesses = tokenizer.convert_ids_to_tokens(logits.argmax(-1).tolist())
    right: dict[str, list[bool]] = {}
    for question, guess in zip(asked, guesses):
        right.setdefault(question.kind, []).append(guess == question.answer)
    return {kind: sum(hits) / len(hits) for kind, hits in right.items()}


# ---------------------------------------------------------------- a tiny BERT for it

TOKENS = 3_000_000  # what `train` sees if nothing else is said
TUNING_EPOCHS = 20
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUING = tuple("##" + letter for letter in "abcdefghijklmnopqrstuvwxyz")


def train_tokenizer(paths: Sequence[str | Path], vocab_size: int = 290):
    """A transformers BertTokenizer whose WordPiece vocabulary is learnt from text files, lower-cased.

    The pieces ##a to ##z are listed first: their order would else change from run to run, and with it the
    tie-breaks, so that the same text would not always give the same vocabulary.
    """
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizer

    trained = BertWordPieceTokenizer(lowercase=True)
    trained.train([str(path) for path in paths], vocab_size=vocab_size, min_frequency=2, special_tokens=[*SPECIAL, *CONTINUING], show_progress=False)
    return BertTokenizer(vocab=trained.get_vocab(), model_max_length=128)


def tiny_config(tokenizer, layers: int = 2, width: int = 64):
    """A BertConfig for this world: 2 layers, 64 wide, 4 heads; bert-base has 12 layers, 768 wide, 12 heads.

    The weights begin at a larger scale than bert-base's 0.02, since a narrow network would take long to leave its
    start, and there is no dropout: it has more to learn than to forget in so short a time.
    """
    from transformers import BertConfig

    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=4 * width,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.05,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def recipe(tokens: int = TOKENS, objective: str = "nsp", seed: int = 0, **changes):
    """The PretrainOptions for this world; `changes` replaces any of them."""
    from .pretraining import PairOptions, PretrainOptions

    pairs = PairOptions(max_length=40, objective=objective, short=0.3)
    usual = {"tokens": tokens, "batch_tokens": 768, "learning_rate": 3e-3, "mask": 0.2, "pairs": pairs, "seed": seed}
    return PretrainOptions(**usual | changes)


def train(
    seed: int = 0,
    objective: str = "nsp",
    tokens: int = TOKENS,
    *,
    output: str | Path | None = None,
    text: int = 4000,
    callback: Callable[[dict], bool | None] | None = None,
    **changes,
):
    """A tiny BERT trained from scratch on this world: (BertForPreTraining in eval mode, its tokenizer).

    seed       of the weights, the pairs and the masks; the text is the same for all seeds
    objective  "nsp", "sop" or "none", as in PairOptions
    tokens     how long to train; 0 leaves the weights random
    output     a folder to keep the run in; output/model is then a checkpoint for any from_pretrained
    text       how many documents
    callback   gets the log records of `bertlab.pretrain`
    changes    other fields of PretrainOptions

    The same arguments give the same model on the same machine; another CPU rounds differently.
    Raises ValueError for an unknown objective.
    """
    import torch
    from transformers import BertForPreTraining

    from .pretraining import TextCache, pretrain, save_checkpoint

    options = recipe(tokens, objective, seed, **changes)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(output or scratch)
        paths = write_text(folder / "text", text)
        tokenizer = train_tokenizer(paths)
        torch.manual_seed(seed)
        model = BertForPreTraining(tiny_config(tokenizer))
        if tokens:
            cache = TextCache.build(paths, tokenizer, folder / "cache")
            pretrain(model, tokenizer, cache, folder, options, evaluate_every=0.25, callback=callback, progress=False)
        else:
            save_checkpoint(model, tokenizer, folder / "model")
    return model.eval(), tokenizer


# ---------------------------------------------------------------- the test on sentence pairs


def tune_entailment(model, tokenizer, pairs: Sequence[EntailmentPair], seed: int = 0, callback: Callable[[dict], bool | None] | None = None):
    """A BertForSequenceClassification (label 1 = follows) that starts from `model`'s encoder and pooler, tuned on `pairs`.

    `model`, a BertForPreTraining, is left as it is.
    """
    import torch
    from transformers import BertForSequenceClassification

    from .fine_tuning import FitOptions, fit

    torch.manual_seed(seed)
    classifier = BertForSequenceClassification(model.config)
    classifier.bert.load_state_dict(model.bert.state_dict())

    def loss_of(network, batch):
        labels = torch.tensor([pair.label for pair in batch])  # (B,)
        return network(**_pair_batch(tokenizer, batch), labels=labels).loss

    fit(classifier, pairs, loss_of, FitOptions(epochs=TUNING_EPOCHS, batch_size=32, learning_rate=1e-3, seed=seed), callback=callback)
    return classifier


def score_entailment(classifier, tokenizer, pairs: Sequence[EntailmentPair]):
    """Which pairs are judged rightly: a bool array (N,)."""
    import numpy as np
    import torch

    with torch.inference_mode():
        logits = classifier.eval()(**_pair_batch(tokenizer, pairs)).logits  # (N, 2)
    return np.array(logits.argmax(-1).tolist()) == [pair.label for pair in pairs]


def _pair_batch(tokenizer, pairs: Sequence[EntailmentPair]):
    return tokenizer([p.premise for p in pairs], [p.hypothesis for p in pairs], padding=True, return_tensors="pt")
