"""What the notebooks' hub cells ask the Hub for, made small and local: random checkpoints, and data sets of a dozen rows.

    build({"roberta-base", "stanfordnlp/sst2"}, folder) -> the two arguments of hub_standin.HubStandIn

The data sets' rows are ours; their columns, splits, features and folders are those of the real ones. A hub cell
that asks for a new name needs one line in MODELS or DATASETS here.
"""

import json
from collections.abc import Callable
from pathlib import Path

import bertlab as bl

TINY = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
VOCABULARY = 400


def encoder(kind: str, task: str = "MaskedLM", whole_vocabulary: bool = False, **config) -> Callable[[Path], Path]:
    """A tiny random checkpoint of an architecture, with a tokenizer of its class trained on our documents (or bl.BERT's)."""

    def write(folder: Path) -> Path:
        import transformers

        tokenizer = transformers.AutoTokenizer.from_pretrained(bl.BERT) if whole_vocabulary else small_tokenizer(kind)
        special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "cls", "sep")}
        settings = {**TINY, "vocab_size": len(tokenizer), **{k: v for k, v in special.items() if v is not None}, **config}
        configuration = transformers.AutoConfig.for_model(kind, **settings)
        model = getattr(transformers, f"AutoModel{'For' + task if task else ''}").from_config(configuration)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return write


def small_tokenizer(kind: str):
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING

    sentences = [sentence for document in bl.documents() for sentence in document.sentences]
    if kind != "modernbert":
        kind_of_tokenizer = TOKENIZER_MAPPING[type(transformers.AutoConfig.for_model(kind))]
        return kind_of_tokenizer().train_new_from_iterator(sentences, VOCABULARY, show_progress=False)
    tokenizer = Tokenizer(models.BPE())  # ModernBERT has no tokenizer class: the checkpoint brings byte-level BPE with [CLS]
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    tokenizer.train_from_iterator(sentences, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    names = dict(zip(("unk_token", "cls_token", "sep_token", "pad_token", "mask_token"), special))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **names)


def labels(*names: str) -> dict:
    return {"num_labels": len(names), "id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


MODELS: dict[str, Callable[[Path], str | Path]] = {
    "bert-base-uncased": encoder("bert", "PreTraining", whole_vocabulary=True),
    "sentence-transformers/all-MiniLM-L6-v2": lambda _: bl.SBERT,
    "cross-encoder/ms-marco-MiniLM-L6-v2": encoder("bert", "SequenceClassification", num_labels=1),
    "cross-encoder/stsb-distilroberta-base": encoder("roberta", "SequenceClassification", num_labels=1),
    "FacebookAI/roberta-base": encoder("roberta", type_vocab_size=1, max_position_embeddings=514),
    "distilbert/distilbert-base-uncased": encoder("distilbert"),
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english": encoder("distilbert", "SequenceClassification", **labels("NEGATIVE", "POSITIVE")),
    "albert/albert-base-v2": encoder("albert", "PreTraining"),
    "google/electra-small-discriminator": encoder("electra", "PreTraining"),
    "microsoft/deberta-v3-small": encoder("deberta-v2", relative_attention=True, position_biased_input=False, pos_att_type=["p2c", "c2p"]),
    "answerdotai/ModernBERT-base": encoder("modernbert"),
    "microsoft/MiniLM-L12-H384-uncased": encoder("bert", ""),
    "nreimers/MiniLM-L6-H384-uncased": encoder("bert", ""),
    "dslim/bert-base-NER": encoder("bert", "TokenClassification", **labels("O", "B-MISC", "I-MISC", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")),
    "deepset/roberta-base-squad2": encoder("roberta", "QuestionAnswering", max_position_embeddings=514),
}


# ---------------------------------------------------------------- data sets

TEXT, NUMBER = {"dtype": "string", "_type": "Value"}, {"dtype": "int32", "_type": "Value"}
SCORE = {"dtype": "float64", "_type": "Value"}
NER_TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]


def a_class(*names: str) -> dict:
    return {"names": list(names), "_type": "ClassLabel"}


def a_list(of: dict) -> dict:
    return {"feature": of, "_type": "List"}


def write_parquet(rows: list[dict], features: dict, file: Path) -> None:
    """Rows as the Hub keeps them: parquet whose metadata says which features the columns have."""
    import pyarrow
    from pyarrow import parquet

    def arrow(feature):
        if feature.get("_type") == "ClassLabel":
            return pyarrow.int64()
        if feature.get("_type") == "List":
            return pyarrow.list_(arrow(feature["feature"]))
        if "_type" not in feature:
            return pyarrow.struct([(name, arrow(inner)) for name, inner in feature.items()])
        return pyarrow.type_for_alias(feature["dtype"])

    schema = pyarrow.schema([(name, arrow(feature)) for name, feature in features.items()], {"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema), file)


def write_splits(rows: dict[str, list[dict]], features: dict, folder: Path, pattern: str) -> Path:
    for split, of in rows.items():
        write_parquet(of, features, folder / pattern.format(split=split))
    return folder


SIMILAR = [  # two sentences and a score from 0 to 1, as in STS-B
    ("A man is slicing bread.", "A man cuts a loaf of bread.", 0.92), ("Two dogs run on a beach.", "Dogs are running by the sea.", 0.8),
    ("A woman plays the violin.", "A woman is playing an instrument.", 0.7), ("The train was late.", "The train arrived after its time.", 0.88),
    ("A child is eating an apple.", "A child is eating a pear.", 0.5), ("A boat leaves the harbour.", "A ship sails out of the port.", 0.9),
    ("Snow fell all night.", "The road was closed in the morning.", 0.3), ("A girl reads a book.", "A boy reads a newspaper.", 0.35),
    ("The shop sells bicycles.", "The minister gave a speech.", 0.0), ("He is washing the car.", "A cat sleeps on a chair.", 0.05),
    ("A band plays on a stage.", "Musicians perform for a crowd.", 0.75), ("The soup is too hot.", "The soup is too salty.", 0.4),
]  # fmt: skip
REVIEWS = [
    ("a warm and clever little film ", 1), ("it never finds its feet ", 0), ("the jokes land and so does the ending ", 1), ("two hours that feel like four ", 0),
    ("beautifully played by everyone in it ", 1), ("a dull copy of better films ", 0), ("i left with a smile ", 1), ("nobody on screen seems to care ", 0),
    ("sharp , funny and kind ", 1), ("loud and empty ", 0), ("a story worth telling , told well ", 1), ("the plot makes no sense at all ", 0),
]  # fmt: skip
PLACES = (
    "The ferry to Holm leaves at nine from the stone pier. It carries forty people and no cars. In winter it runs on Sundays only, "
    "and the captain, Ada Lund, rings a bell before she casts off."
)
ASKED = [  # a question on PLACES and its answer, "" where there is none
    ("When does the ferry leave?", "nine"), ("Where does the ferry to Holm leave from?", "the stone pier"), ("How many people does it carry?", "forty"),
    ("Who is the captain?", "Ada Lund"), ("What does the captain ring?", "a bell"), ("When does the ferry run in winter?", "Sundays only"),
    ("Where does the ferry go?", "Holm"), ("What does the ferry not carry?", "cars"), ("How much is a ticket?", ""),
    ("Who built the pier?", ""), ("When was the ferry built?", ""), ("How long does the crossing take?", ""),
]  # fmt: skip
NAMED = [
    "Ada/B-PER Lund/I-PER lives/O in/O Bergen/B-LOC ./O", "The/O Times/B-ORG praised/O the/O play/O ./O", "Maria/B-PER sings/O in/O Lisbon/B-LOC ./O",
    "Northern/B-ORG Rail/I-ORG closed/O the/O line/O ./O", "He/O reads/O French/B-MISC novels/O ./O", "Lake/B-LOC Como/I-LOC is/O deep/O ./O",
    "Omar/B-PER met/O Jo/B-PER Hill/I-PER ./O", "The/O World/B-MISC Cup/I-MISC begins/O in/O June/O ./O", "Rain/O fell/O all/O day/O ./O",
    "Acme/B-ORG hired/O Lena/B-PER ./O", "They/O left/O Oslo/B-LOC for/O Rome/B-LOC ./O", "A/O Spanish/B-MISC team/O won/O ./O",
]  # fmt: skip


def stsb(folder: Path) -> Path:
    rows = [{"sentence1": a, "sentence2": b, "score": score} for a, b, score in SIMILAR]
    features = {"sentence1": TEXT, "sentence2": TEXT, "score": SCORE}
    return write_splits({"train": rows, "validation": rows, "test": rows}, features, folder, "data/{split}-00000-of-00001.parquet")


def sst2(folder: Path) -> Path:
    rows = [{"idx": i, "sentence": text, "label": label} for i, (text, label) in enumerate(REVIEWS)]
    hidden = [{**row, "label": -1} for row in rows]  # the real test labels are not public
    features = {"idx": NUMBER, "sentence": TEXT, "label": a_class("negative", "positive")}
    return write_splits({"train": rows, "validation": rows, "test": hidden}, features, folder, "data/{split}-00000-of-00001.parquet")


def squad_v2(folder: Path) -> Path:
    rows = []
    for i, (question, answer) in enumerate(ASKED):
        answers = {"text": [answer], "answer_start": [PLACES.index(answer)]} if answer else {"text": [], "answer_start": []}
        rows.append({"id": f"holm-{i}", "title": "Holm", "context": PLACES, "question": question, "answers": answers})
    features = {"id": TEXT, "title": TEXT, "context": TEXT, "question": TEXT, "answers": {"text": a_list(TEXT), "answer_start": a_list(NUMBER)}}
    return write_splits({"train": rows, "validation": rows}, features, folder, "squad_v2/{split}-00000-of-00001.parquet")


def conll2003(folder: Path) -> dict[str, Path]:
    """Its branch main holds a script, which `datasets` refuses; the rows are on the branch refs/convert/parquet."""
    rows = []
    for i, sentence in enumerate(NAMED):
        words, tags = zip(*(pair.rsplit("/", 1) for pair in sentence.split()))
        other = [0] * len(words)
        rows.append({"id": str(i), "tokens": list(words), "pos_tags": other, "chunk_tags": other, "ner_tags": [NER_TAGS.index(tag) for tag in tags]})
    features = {"id": TEXT, "tokens": a_list(TEXT), "pos_tags": a_list(a_class("NN")), "chunk_tags": a_list(a_class("O")), "ner_tags": a_list(a_class(*NER_TAGS))}
    parquet = write_splits({"train": rows, "validation": rows, "test": rows}, features, folder / "parquet", "conll2003/{split}/0000.parquet")
    script = folder / "main"
    script.mkdir()
    (script / "conll2003.py").write_text("raise SystemError('a script must not be run')\n", encoding="utf-8")
    return {"main": script, "refs/convert/parquet": parquet}


DATASETS: dict[str, Callable[[Path], Path | dict[str, Path]]] = {
    "sentence-transformers/stsb": stsb,
    "stanfordnlp/sst2": sst2,
    "rajpurkar/squad_v2": squad_v2,
    "eriktks/conll2003": conll2003,
    "lhoestq/conll2003": lambda folder: conll2003(folder)["refs/convert/parquet"],
}


def named_in(source: str) -> set[str]:
    """Those names of MODELS and DATASETS that a cell mentions as whole strings.

    >>> named_in('load_dataset("stanfordnlp/sst2")')
    {'stanfordnlp/sst2'}
    """
    return {name for name in [*MODELS, *DATASETS] if any(quote + name + quote in source for quote in "\"'")}


def build(names: set[str], root: Path) -> tuple[dict, dict]:
    """(models, datasets) for HubStandIn: what `names` lists, each made once under `root`."""
    return tuple({name: _made(name, makers[name], root) for name in sorted(names & set(makers))} for makers in (MODELS, DATASETS))


_MADE: dict[tuple[str, Path], object] = {}


def _made(name: str, make: Callable, root: Path):
    if (name, root) not in _MADE:
        folder = root / name.replace("/", "--")
        folder.mkdir(parents=True)
        _MADE[name, root] = make(folder)
    return _MADE[name, root]
