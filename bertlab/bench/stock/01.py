# The lesson of notebook 01 without bertlab. Holds: the encoder, a classifier, the NSP model.
# %%
import os

import matplotlib.pyplot as plt
import torch
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch.nn.functional import cosine_similarity
from transformers import AutoTokenizer, BertForNextSentencePrediction, BertForSequenceClassification, BertModel

from bertlab.datasets import documents, next_sentence_pairs  # reads the same sentences, loads nothing else

BERT = os.environ["LESSON_BERT"]
_ = torch.set_grad_enabled(False)
tokenizer = AutoTokenizer.from_pretrained(BERT)
model = BertModel.from_pretrained(BERT, attn_implementation="eager")
# %%
batch = tokenizer("The playwright rewrote her unforgettable screenplay.", return_tensors="pt")
print(tokenizer.convert_ids_to_tokens(batch.input_ids[0]))
pair = tokenizer("Mia lost her key.", "She slept next door.", return_tensors="pt")
for typed in ("Tokenization is unglamorous.", "A café in Zürich", "你好"):
    print(tokenizer.tokenize(typed))
# %%
sentences = ["The film was a delight from start to finish.", "The film was a bore from start to finish.", "Whisk the eggs and fold in the sugar.", "Parliament voted against the bill."]
batch = tokenizer(sentences, padding=True, return_tensors="pt")
output = model(**batch, output_hidden_states=True)
last_cls = output.last_hidden_state[:, 0]
table = cosine_similarity(last_cls[:, None], last_cls[None], dim=-1)


def heatmap(values, title):
    figure, axes = plt.subplots()
    figure.colorbar(axes.imshow(values))
    axes.set_title(title)
    plt.show()


heatmap(table, "[CLS] vectors, last layer")
# %%
classifier = BertForSequenceClassification.from_pretrained(BERT)
print(classifier(**batch).logits.argmax(-1).tolist())
# %%
for seed in range(6):
    torch.manual_seed(seed)
    logits = BertForSequenceClassification.from_pretrained(BERT)(**batch).logits
    print(logits.argmax(-1).tolist())
# %%
nsp = BertForNextSentencePrediction.from_pretrained(BERT)
pairs = next_sentence_pairs(("next", "another source"), per_kind=50)
ab = tokenizer([p.sentence_a for p in pairs], [p.sentence_b for p in pairs], padding=True, return_tensors="pt")
logits = nsp(**ab).logits
head = nsp.cls.seq_relationship
by_hand = nsp.bert(**ab).pooler_output @ head.weight.T + head.bias
print(int((logits.argmax(-1) == torch.tensor([p.label for p in pairs])).sum()))
# %%
chosen = [d for d in documents() if d.source in ("howto", "story")]
rows = [(s, int(d.source == "howto"), number % 3 == 2) for number, d in enumerate(chosen) for s in d.sentences]
train_x, train_y = zip(*[(s, label) for s, label, held_out in rows if not held_out])
test_x, test_y = zip(*[(s, label) for s, label, held_out in rows if held_out])
words = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=2000)).fit(train_x, train_y)


def vectors(texts):
    out = model(**tokenizer(list(texts), padding=True, return_tensors="pt"))
    return out.last_hidden_state[:, 0].double().numpy(), out.pooler_output.double().numpy()


for a, b in zip(vectors(train_x), vectors(test_x)):
    head = LogisticRegression(max_iter=2000).fit(a, train_y)
    print(int((head.predict(b) == test_y).sum()), "of", len(test_y))
# %%
test_batch = tokenizer(list(test_x), padding=True, return_tensors="pt")
print(int((classifier(**test_batch).logits.argmax(-1) == torch.tensor(test_y)).sum()))
# %%
one = tokenizer("The river bank was covered with wild flowers", return_tensors="pt")
attention = torch.cat(model(**one, output_attentions=True).attentions)
from_cls = attention[:, :, 0].mean(1)
heatmap(from_cls, "Attention from [CLS], mean of all heads")
for head in range(12):
    weights = torch.cat(model(**one, output_attentions=True).attentions)[-1, head]
    print(head + 1, weights[0].topk(2).indices.tolist())
heatmap(weights, "one head")
# %%
tokens = tokenizer.convert_ids_to_tokens(one.input_ids[0])
ids = one.input_ids.repeat(len(tokens), 1)
ids.fill_diagonal_(tokenizer.mask_token_id)
hidden_word = model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0]
moved = (hidden_word - model(**one).last_hidden_state[:, 0]).norm(dim=1)[1:-1]
print(spearmanr(from_cls[-1, 1:-1], moved).statistic)
