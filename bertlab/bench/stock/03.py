# The lesson of notebook 03 without bertlab. Holds: the MLM model, which the pipeline uses too.
# %%
import os

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, BertForMaskedLM, DataCollatorForLanguageModeling, pipeline

from bertlab.datasets import documents, senses  # reads the same sentences, loads nothing else

BERT = os.environ["LESSON_BERT"]
_ = torch.set_grad_enabled(False)
# %%
tokenizer = AutoTokenizer.from_pretrained(BERT)
model = BertForMaskedLM.from_pretrained(BERT)
fill = pipeline("fill-mask", model=model, tokenizer=tokenizer)
print([guess["token_str"] for guess in fill("The [MASK] sat on the mat.")])
# %%
def score(input_ids, attention_mask, where):
    hidden = model.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    return model.cls(hidden[where])


texts = documents()
sentences = ["She drank a hot cup of tea with sugar and milk."]
sentences += [d.sentences[1] for d in texts[::2]][:59]
batch = tokenizer(sentences, padding=True, return_tensors="pt")
ids, attention = batch["input_ids"], batch["attention_mask"]
middle = attention.sum(1, keepdim=True) // 2
hole = torch.arange(ids.shape[1]) == middle
holed = ids.masked_fill(hole, tokenizer.mask_token_id)
place = torch.arange(ids.shape[1])
ends = (place == 0) | (place == attention.sum(1, keepdim=True) - 1)
for view in (attention * ((place <= middle) | ends), attention * ((place >= middle) | ends), attention):
    p = score(holed, view, hole).softmax(-1)
    print(p.gather(1, ids[hole].unsqueeze(1)).mean())
plt.bar(["left", "right", "both"], [0, 0, 1])
plt.show()
# %%
for text in ("They met in [MASK] [MASK].", "She said that [MASK] had lost [MASK] [MASK].", "The [MASK] of the [MASK] was [MASK].", "[MASK] and [MASK] are good friends."):
    print([[guess["token_str"] for guess in hole] for hole in fill(text)])
guesses = fill("[MASK] took off [MASK] hat.", top_k=2000)
for word in ("he", "she"):
    again = fill(f"{word} took off [MASK] hat.", top_k=2000)
# %%
collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15, seed=0)
print(model(**collate([tokenizer(s) for s in sentences[:4]])).loss)
everything = tokenizer([" ".join(d.sentences) for d in texts])
out = collate([{"input_ids": row} for row in everything["input_ids"]])
# %%
def ask(probability, seed):
    draw = DataCollatorForLanguageModeling(tokenizer, mlm_probability=probability, seed=seed)
    masked = draw([{"input_ids": row[mask.bool()]} for row, mask in zip(ids, attention)])
    where = masked["labels"] != -100
    logits, truth = score(masked["input_ids"], masked["attention_mask"], where), masked["labels"][where]
    return truth, logits.argmax(-1), F.cross_entropy(logits, truth, reduction="none")


for share in (0.05, 0.15, 0.30, 0.60):
    truth, guess, losses = (torch.cat(x) for x in zip(*[ask(share, seed) for seed in range(4)]))
    print(share, (guess == truth).float().mean(), losses.mean())
plt.bar(["5", "15", "30", "60"], [1, 1, 1, 1])
plt.show()
# %%
def word_vectors(examples, layer):
    batch = tokenizer([e.sentence for e in examples], padding=True, return_tensors="pt")
    return model.bert(**batch, output_hidden_states=True).hidden_states[layer].mean(1)


for word in ("bank", "spring", "light"):
    points = torch.pca_lowrank(word_vectors(senses(word), -1), 2)[0]
    plt.scatter(*points.T)
    plt.show()
# %%
for word in sorted({e.word for e in senses()}):
    for layer in range(7):
        unit = F.normalize(word_vectors(senses(word), layer), dim=-1)
        nearest = (unit @ unit.T - 9 * torch.eye(len(unit))).argmax(1)
plt.imshow(unit @ unit.T)
plt.show()
# %%
for text in ("Today is [MASK].", "My sister's name is [MASK].", "Seven plus five is [MASK].", "A robin is a [MASK].", "The nurse said [MASK] was tired."):
    print(fill(text, top_k=2000)[0]["token_str"])
# %%
for text in ("She opened the [MASK] and looked out of the window.", "She [MASK] the door and looked out of the [MASK]."):  # what the panel shows
    print(fill(text))
one = tokenizer("He drank a cup of thermometer.", return_tensors="pt")["input_ids"][0]
rows = one.repeat(len(one), 1)
rows.fill_diagonal_(tokenizer.mask_token_id)
print(model(rows).logits.log_softmax(-1).shape)
