# The lesson of notebook 04 without bertlab. Holds: the NSP model, and a SentenceTransformer of bl.SBERT.
# %%
import os
import random

import matplotlib.pyplot as plt
import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, BertForNextSentencePrediction

from bertlab.datasets import documents, next_sentence_gallery, next_sentence_pairs, similarity_pairs, word_overlap  # reads the same sentences, loads nothing else

BERT, SBERT = os.environ["LESSON_BERT"], os.environ["LESSON_SBERT"]
_ = torch.set_grad_enabled(False)
# %%
tokenizer = AutoTokenizer.from_pretrained(BERT)
model = BertForNextSentencePrediction.from_pretrained(BERT)
batch = tokenizer("She opened the front door.", "A cold wind blew into the hall.", return_tensors="pt")
print(model(**batch).logits.softmax(-1))
for label in (0, 1):
    print(model(**batch, labels=torch.tensor([label])).loss)
# %%
sbert = SentenceTransformer(SBERT, device="cpu")


def sbert_cosine(texts_a, texts_b):
    a, b = (sbert.encode(list(texts), batch_size=16, convert_to_tensor=True, show_progress_bar=False) for texts in (texts_a, texts_b))
    return torch.cosine_similarity(a, b).numpy()


def ask(pairs, segments=True):
    answers = []
    for start in range(0, len(pairs), 16):
        batch = tokenizer(*(list(side) for side in zip(*pairs[start : start + 16])), padding=True, return_tensors="pt")
        if not segments:
            batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
        answers += model(**batch).logits.softmax(-1)[:, 0].tolist()
    return np.array(answers)


alike = [(p.sentence_a, p.sentence_b) for p in similarity_pairs() if p.grade >= 4.5]
follow = [(p.sentence_a, p.sentence_b) for p in next_sentence_pairs(("next",), per_kind=100)]
for group in (alike, follow):
    print(sbert_cosine(*zip(*group)).mean(), ask(group).mean())
# %%
pairs = next_sentence_pairs(per_kind=100)
kind = np.array([p.kind for p in pairs])
texts = [(p.sentence_a, p.sentence_b) for p in pairs]
is_next = ask(texts)
# %%
figure, axes = plt.subplots(1, 5, figsize=(10, 2.8), sharey=True)
for ax, k in zip(axes, dict.fromkeys(kind)):
    ax.hist(is_next[kind == k], np.linspace(0, 1, 11))
plt.show()
# %%
overlap = np.array([word_overlap(a, b) for a, b in texts])
plt.imshow(np.stack([is_next, overlap])[:, :50])
plt.show()
plt.bar(["head", "overlap"], [is_next.mean(), overlap.mean()])
plt.show()
# %%
backward = ask([(p.sentence_b, p.sentence_a) for p in pairs if p.kind == "next"])
without = ask(texts, segments=False)
print(np.abs(without - is_next).mean())
# %%
long_documents = [d for d in documents() if len(d.sentences) >= 6]
for k in (1, 2, 3):
    rng, rows = random.Random(0), []
    for d in long_documents:
        others = {True: [], False: []}
        for o in long_documents:
            if o.id != d.id:
                others[o.source == d.source].append(o)
        a = " ".join(d.sentences[3 - k : 3])
        rows += [(a, " ".join(other.sentences[3 : 3 + k])) for other in (d, rng.choice(others[False]), rng.choice(others[True]))]
    print(ask(rows).mean())
# %%
for pair in next_sentence_gallery():  # what the panel shows
    print(ask([(pair.sentence_a, pair.sentence_b)]))
