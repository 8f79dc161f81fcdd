"""Several seeds of named entities and of question answering: what notebooks/07_token_tasks.ipynb shows as stored.

    python tests/runs/token_tasks.py --output data/results/token_tasks.json

Every arm is scored on the test split of data/ner.jsonl or data/qa.json. The output is written after each run, and a
run that is in it already is not repeated, so a stopped script goes on where it was (delete the file to begin anew).
Where the processor multiplies bfloat16 in hardware, training does so; scoring is in float32.
"""

import argparse
import json
import os
import random
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from fast import fast
from transformers import BertConfig, BertForQuestionAnswering, BertForTokenClassification
from transformers.utils import logging

import bertlab as bl
from bertlab import token_tasks as tt
from bertlab.checkpoints import SHA256, data_folder, load_tokenizer
from bertlab.fine_tuning import FitOptions, fit
from bertlab.pretraining import _keep_freed_memory

SEEDS = (0, 1, 2)
NER = {"epochs": 15, "batch_size": 16, "learning_rate": 3e-4, "head_rate": 10.0}
QA = {"epochs": 3, "batch_size": 16, "learning_rate": 2e-4, "head_rate": 5.0}
CLOZE = {"epochs": 1, "batch_size": 16, "learning_rate": 2e-4, "head_rate": 5.0}
CLOZES = 2000
SHOWN = ("clozes, then questions", 0)  # the arm and seed whose logits are kept
NER_ARMS = {  # name: (weights, share of the training sentences, does every token get the sentence's mean?)
    "all sentences": ("BERT", 1.0, False),
    "a quarter": ("BERT", 0.25, False),
    "random weights": (None, 1.0, False),
    "mean vector": ("BERT", 1.0, True),
}
QA_ARMS = {  # name: (weights, clozes first?, epochs of the questions)
    "questions": ("BERT", False, 3),
    "clozes only": ("BERT", True, 0),
    "clozes, then questions": ("BERT", True, 3),
}


def start(kind, weights: str | None, seed: int, **options):
    """A model with a new head; weights "BERT", "SBERT" or None for random ones of bl.BERT's shape.

    Pretrained embeddings stay as they are, as in the notebook: it saves time.
    """
    torch.manual_seed(seed)
    if weights is None:
        return kind(BertConfig.from_pretrained(bl.BERT, **options))
    model = kind.from_pretrained(getattr(bl, weights), dtype=torch.float32, **options)
    model.bert.embeddings.requires_grad_(False)
    return model


def run_ner(tokenizer, weights: str | None, share: float, pooled: bool, seed: int) -> dict:
    train, test = bl.datasets.ner("train"), bl.datasets.ner("test")
    random.Random(seed).shuffle(train)
    model = start(BertForTokenClassification, weights, seed, num_labels=len(tt.TAGS))
    if pooled:
        model = tt.MeanForEveryToken(model)
    recipe = FitOptions(**{**NER, "epochs": NER["epochs"] / share}, seed=seed)  # fewer sentences, as many steps
    with fast(model.bert):
        fit(model, train[: round(share * len(train))], tt.ner_loss(tokenizer), recipe)
    found = tt.predict_tags(model, tokenizer, [s.words for s in test])
    counts = [tt.entity_score([s.tags], [tags]) for s, tags in zip(test, found)]
    everything = tt.entity_score([s.tags for s in test], found)
    ends = tt.entity_score([s.tags for s in test], found, kinds=False)
    kinds = {k: tt.entity_score([s.tags for s in test], found, only=k).f1 for k in tt.KINDS}
    return {
        "f1": round(everything.f1, 4),
        "precision": round(everything.precision, 4),
        "recall": round(everything.recall, 4),
        "f1_ends": round(ends.f1, 4),
        "f1_kinds": {k: round(v, 4) for k, v in kinds.items()},
        "sentences": [[c.right, c.predicted, c.there] for c in counts],
    }


def cloze_texts() -> list[str]:
    """Passages of data/ without the test passages of qa.json."""
    texts = list(dict.fromkeys(e.context for e in bl.datasets.question_answering("train")))
    texts += [p.text for p in bl.datasets.passages()] + [" ".join(d.sentences) for d in bl.documents()]
    everyday = (data_folder() / "everyday.txt").read_text(encoding="utf-8")
    return texts + [" ".join(document.split("\n")) for document in everyday.strip().split("\n\n")]


AFTER_CLOZES: dict = {}  # {(weights, seed): state}, the last one only: two arms with the same clozes share it


def run_qa(tokenizer, weights: str | None, clozes: bool, epochs: int, seed: int) -> dict:
    train = bl.datasets.question_answering("train")
    model = start(BertForQuestionAnswering, weights, seed)
    if clozes:
        if (weights, seed) in AFTER_CLOZES:
            model.load_state_dict(AFTER_CLOZES[weights, seed])
        else:
            made = tt.cloze_questions(cloze_texts(), per_text=1, seed=seed, sentences=3)
            random.Random(seed).shuffle(made)
            with fast(model.bert):
                fit(model, made[:CLOZES], tt.qa_loss(tokenizer), FitOptions(**CLOZE, seed=seed))
            AFTER_CLOZES.clear()
            AFTER_CLOZES[weights, seed] = {name: value.clone() for name, value in model.state_dict().items()}
    if epochs:
        with fast(model.bert):
            fit(model, train, tt.qa_loss(tokenizer), FitOptions(**{**QA, "epochs": epochs}, seed=seed))
    return {**score_qa(model.eval(), tokenizer), "shown": shown(model, tokenizer)}


def score_qa(model, tokenizer) -> dict:
    """Of every test question: exact match and F1 of the best span, and how far "no answer" is ahead of it."""
    test = bl.datasets.question_answering("test")
    answers = tt.answer_questions(model, tokenizer, test, float("inf"))
    said = [tt.with_threshold(a, 0.0).text for a in answers]
    return {
        "em": round(sum(tt.exact_match(a, e.answer) for a, e in zip(said, test)) / len(test), 4),
        "f1": round(sum(tt.answer_f1(a, e.answer) for a, e in zip(said, test)) / len(test), 4),
        "span_em": [tt.exact_match(a.text, e.answer) for a, e in zip(answers, test)],
        "span_f1": [round(tt.answer_f1(a.text, e.answer), 4) for a, e in zip(answers, test)],
        "margin": [round(a.margin, 3) for a in answers],
    }


def shown(model, tokenizer) -> dict:
    """The logits of the first test question that has an answer, for the notebook's figure."""
    example = next(e for e in bl.datasets.question_answering("test") if e.answer)
    batch = tokenizer(example.question, example.context, return_offsets_mapping=True, return_tensors="pt")
    offsets = batch.pop("offset_mapping")[0].tolist()
    with torch.inference_mode():
        output = model(**batch)
    (answer,) = tt.answer_questions(model, tokenizer, [example], float("inf"))
    return {
        "question": example.question,
        "true": example.answer,
        "span_text": answer.text,
        "said": tt.with_threshold(answer, 0.0).text,
        "tokens": batch.tokens(),
        "start": [round(x, 3) for x in output.start_logits[0].tolist()],
        "end": [round(x, 3) for x in output.end_logits[0].tolist()],
        "span": list(tt.answer_tokens(offsets, batch.sequence_ids(0), example.start, example.start + len(example.answer))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many of the seeds to run in this call")
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    _keep_freed_memory()
    bl.BERT, bl.SBERT  # verified here: SHA256 names them below
    results = {
        "command": "python tests/runs/token_tasks.py --output data/results/token_tasks.json",
        "weights": SHA256,
        "recipe": {"ner": NER, "qa": QA, "cloze": {**CLOZE, "questions": CLOZES}, "seeds": list(SEEDS)},
        "ner": {},
        "qa": {},
    }
    if args.output.exists():
        old = json.loads(args.output.read_text(encoding="utf-8"))
        if any(old[k] != results[k] for k in ("weights", "recipe")):
            raise SystemExit(f"{args.output} comes from other weights or another recipe: delete it to begin anew.")
        results = old
    tokenizer = load_tokenizer(bl.BERT)
    for seed in SEEDS[: args.seeds]:
        for task, arms in (("ner", NER_ARMS), ("qa", QA_ARMS)):
            for name, arm in arms.items():
                runs = results[task].setdefault(name, [])
                if len(runs) > seed:
                    continue
                if task == "ner":
                    runs.append(run_ner(tokenizer, *arm, seed))
                else:
                    runs.append(run_qa(tokenizer, *arm, seed))
                    logits = runs[-1].pop("shown")
                    if (name, seed) == SHOWN:
                        results["shown"] = logits
                args.output.parent.mkdir(exist_ok=True)
                args.output.write_text(json.dumps(results) + "\n", encoding="utf-8")
                print(task, name, "seed", seed, {k: runs[-1][k] for k in ("f1", "em", "f1_ends") if k in runs[-1]}, flush=True)


if __name__ == "__main__":
    main()
