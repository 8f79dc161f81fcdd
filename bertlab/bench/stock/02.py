# The lesson of notebook 02 without bertlab. Holds: two encoders, bl.BERT's and bl.SBERT's, and the vectors of all sentences.
# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import rankdata, spearmanr
from transformers import AutoModel, AutoTokenizer, BertModel

from bertlab.datasets import documents, senses, similarity_pairs  # reads the same sentences, loads nothing else

BERT, SBERT = os.environ["LESSON_BERT"], os.environ["LESSON_SBERT"]
_ = torch.set_grad_enabled(False)
# %%
tokenizer = AutoTokenizer.from_pretrained(BERT)
model = BertModel.from_pretrained(BERT)
sentence = "The river froze overnight."
batch = tokenizer([sentence, "By noon half the town was skating on it."], padding=True, return_tensors="pt")
hidden = model(**batch).last_hidden_state


def by_hand(hidden, attention_mask):
    mask = attention_mask.unsqueeze(-1)
    return {
        "cls": hidden[:, 0],
        "mean": (hidden * mask).sum(1) / mask.sum(1).clamp(min=1),
        "max": hidden.masked_fill(mask == 0, float("-inf")).max(1).values,
    }


# %%
from sentence_transformers.sentence_transformer.modules import Pooling

for mode, mine in by_hand(hidden, batch["attention_mask"]).items():
    features = {"token_embeddings": hidden, "attention_mask": batch["attention_mask"]}
    print(mode, torch.allclose(Pooling(hidden.shape[-1], pooling_mode=mode)(features)["sentence_embedding"], mine, atol=1e-6))
# %%
drift = []
for extra in (0, 1, 2, 4, 8, 16, 32, 64):
    length = len(tokenizer(sentence)["input_ids"]) + extra
    padded = tokenizer(sentence, padding="max_length", max_length=length, return_tensors="pt")
    states = model(**padded).last_hidden_state
    drift.append(torch.cosine_similarity(by_hand(states, padded["attention_mask"])["mean"], states.mean(1)).item())
plt.plot(drift)
plt.show()
# %%
paragraph = " ".join(documents()[0].sentences)
crowd = [t for p in similarity_pairs("test")[:20] for t in (p.sentence_a, p.sentence_b)]
batch = tokenizer([*crowd, paragraph], padding=True, return_tensors="pt")
states = model(**batch).last_hidden_state[:40]
unit = torch.nn.functional.normalize(by_hand(states, batch["attention_mask"][:40])["mean"], dim=-1)
print((unit @ unit.T).mean())
# %%
pairs = similarity_pairs("test")
for pair in pairs[:10]:  # what the panel shows
    for text in (pair.sentence_a, pair.sentence_b):
        one = tokenizer(text, padding="max_length", max_length=80, return_tensors="pt")
        by_hand(model(**one).last_hidden_state, one["attention_mask"])
# %%
grades = np.array([p.grade for p in pairs])
sbert, sbert_tokenizer = AutoModel.from_pretrained(SBERT), AutoTokenizer.from_pretrained(SBERT)


def all_vectors(texts, model, tokenizer):
    order, found = sorted(range(len(texts)), key=lambda i: len(texts[i])), {}
    for start in range(0, len(order), 32):
        batch = tokenizer([texts[i] for i in order[start : start + 32]], padding=True, return_tensors="pt")
        layers = model(**batch, output_hidden_states=True).hidden_states
        for mode, vectors in by_hand(layers[-1], batch["attention_mask"]).items():
            found.setdefault(mode, []).append(vectors)
        for number, layer in enumerate(layers):
            found.setdefault(number, []).append(by_hand(layer, batch["attention_mask"])["mean"])
    back = torch.tensor(order).argsort()
    return {key: torch.cat(rows)[back] for key, rows in found.items()}


sentences = [p.sentence_a for p in pairs] + [p.sentence_b for p in pairs]
vectors = {"BERT": all_vectors(sentences, model, tokenizer), "SBERT": all_vectors(sentences, sbert, sbert_tokenizer)}
# %%
def cosines(name, mode):
    return torch.cosine_similarity(*vectors[name][mode].chunk(2)).numpy()


scores = {(m, k): spearmanr(cosines(m, k), grades).statistic for m in vectors for k in ("cls", "mean", "max")}
plt.bar([" ".join(key) for key in scores], list(scores.values()))
plt.show()
plt.scatter(grades, cosines("BERT", "mean"))
plt.show()
# %%
draws = np.random.default_rng(0).integers(len(pairs), size=(1000, len(pairs)))


def correlations(values):
    x, y = rankdata(values)[draws], rankdata(grades)[draws]
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    return (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))


for m in vectors:
    lead = correlations(cosines(m, "mean")) - correlations(cosines(m, "cls"))
    print(np.percentile(lead, [2.5, 97.5]))
# %%
for m, found in vectors.items():
    plt.plot([spearmanr(cosines(m, layer), grades).statistic for layer in found if isinstance(layer, int)])
plt.show()
# %%
batch = tokenizer([e.sentence for e in senses("bank")][:4], padding=True, return_tensors="pt")
print(model(**batch).last_hidden_state.shape)
