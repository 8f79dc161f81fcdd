"""Attention weights: how much of each token's vector a head mixes into which other token's.

Taught in notebooks/01_cls_token.ipynb, section 8.
Sources: Vaswani et al. 2017, arXiv 1706.03762, section 3.2 (the weights); Clark et al. 2019, arXiv 1906.04341, section 3 (what BERT's
heads look at). A weight is no explanation of the model's answer: Jain and Wallace 2019, arXiv 1902.10186, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .checkpoints import load_model, load_tokenizer, resolve
from .tokens import check_text, tokenize


@dataclass(frozen=True, repr=False)
class Attention:
    """The attention weights of one text of T tokens, by a model of L layers.

    tokens     the T word pieces, [CLS] and [SEP] included
    special    for each token whether it is [CLS] or [SEP]
    weights    (L, heads, T, T): [layer, head, i, j] is how much token i takes from token j; over j they sum to 1
    """

    tokens: tuple[str, ...]
    special: tuple[bool, ...]
    weights: torch.Tensor

    def __repr__(self) -> str:
        layers, heads, tokens, _ = self.weights.shape
        return f"Attention({layers} layers, {heads} heads, {tokens} tokens)"


@torch.inference_mode()
def attention_weights(text: str, *, model: str | None = None) -> Attention:
    """Run one text through the encoder and keep the weights of every head.

    text   at most 512 tokens are read; a UserWarning says what was cut or unreadable
    model  a checkpoint folder; bl.BERT if not given
    Raises ValueError for an empty text or anything that is no string, and for a model that hands out no weights.

    >>> attention = attention_weights("A cat sat.")
    >>> attention.tokens
    ('[CLS]', 'a', 'cat', 'sat', '.', '[SEP]')
    >>> bool(torch.allclose(attention.weights.sum(-1), torch.ones(6)))     # each token spends 1.00
    True
    """
    folder = model or resolve("BERT")
    tokenizer, network = load_tokenizer(folder), load_model(folder)
    batch = tokenize(check_text(text), tokenizer)
    own = network.config._attn_implementation
    network.set_attn_implementation("eager")  # the fused kernels keep no weights
    try:
        weights = network(**batch, output_attentions=True).attentions
    finally:
        network.set_attn_implementation(own)
    if not weights:
        raise ValueError(f"The model in {folder} hands out no attention weights: unset BERTLAB_BERT or choose a BERT checkpoint.")
    ids = batch["input_ids"][0].tolist()
    special = tuple(number in (tokenizer.cls_token_id, tokenizer.sep_token_id) for number in ids)
    return Attention(tuple(tokenizer.convert_ids_to_tokens(ids)), special, torch.cat(weights))
