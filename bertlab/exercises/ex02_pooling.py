"""Exercises of notebooks/02_pooling.ipynb."""

import torch

from .core import Case, exercise


def padded_batches() -> list[Case]:
    """(hidden_states, attention_mask) of batches with less and more padding; the vectors at [PAD] are not zero."""
    draw = torch.Generator().manual_seed(2)
    full = torch.randn(1, 3, 4, generator=draw)
    two = torch.randn(2, 4, 2, generator=draw)
    three = torch.randn(3, 6, 2, generator=draw) - 3  # all numbers are negative
    return [
        Case("one sentence without padding", full, torch.ones(1, 3, dtype=torch.long)),
        Case("a long and a short sentence", two, torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])),
        Case("three sentences, all numbers negative", three, torch.tensor([[1, 1, 1, 0, 0, 0], [1] * 6, [1, 1, 1, 1, 1, 0]])),
    ]


@exercise(
    "02.1",
    "The mean over real tokens",
    "easy",
    cases=padded_batches,
    hints=[
        "attention_mask is 1 at real tokens and 0 at padding: multiply by it, and nothing of the padding is left in the sum.",
        "Shapes: hidden is (B, T, H), attention_mask is (B, T). attention_mask.unsqueeze(-1) is (B, T, 1), which multiplies every number of a vector.",
        "Divide by the number of real tokens, attention_mask.sum(1, keepdim=True), which is (B, 1). So: (hidden * mask).sum(1) / mask.sum(1), with mask of shape (B, T, 1).",
    ],
    why="Without the mask the vector of a sentence depends on how much padding its batch happens to need.",
)
def mean_pool(hidden, attention_mask):
    mask = attention_mask.unsqueeze(-1)  # (B, T, 1): 1 for a real token, 0 for padding
    total = (hidden * mask).sum(1)  # (B, H): padding adds nothing
    return total / mask.sum(1)  # (B, H): divided by the number of real tokens


@mean_pool.mistake("Your mean counts the vectors at [PAD] as if they were words. They are not zero: multiply by the mask before you add up.")
def padding_in_the_mean(hidden, attention_mask):
    return hidden.mean(1)


@mean_pool.mistake("The sum is right, but you divide by T, padding included. Divide by the number of real tokens of each row.")
def divided_by_all_positions(hidden, attention_mask):
    return (hidden * attention_mask.unsqueeze(-1)).mean(1)


@mean_pool.mistake("That is the sum over the real tokens. A long sentence gets a longer vector: divide by their number.")
def sum_instead_of_mean(hidden, attention_mask):
    return (hidden * attention_mask.unsqueeze(-1)).sum(1)


@exercise(
    "02.2",
    "The maximum over real tokens",
    "medium",
    cases=padded_batches,
    hints=[
        "What number must stand at the padding, so that it never is the greatest? Zero is not small enough.",
        "hidden.masked_fill(condition, value) puts a value where the condition is true. The condition is attention_mask.unsqueeze(-1) == 0.",
        "Fill with float('-inf') (or torch.finfo(hidden.dtype).min), then .max(1).values, or .amax(1).",
    ],
    why="Zero is greater than every negative number, so zeroed padding wins wherever all the real tokens are negative.",
)
def max_pool(hidden, attention_mask):
    padding = attention_mask.unsqueeze(-1) == 0  # (B, T, 1)
    filled = hidden.masked_fill(padding, float("-inf"))  # smaller than any number
    return filled.amax(1)  # (B, H)


@max_pool.mistake("You set the padding to 0, and 0 is greater than every negative number. Fill it with minus infinity.")
def zeroed_padding(hidden, attention_mask):
    return (hidden * attention_mask.unsqueeze(-1)).amax(1)


@max_pool.mistake("The padding takes part: where [PAD] has a greater number than every word, it wins. Fill it with minus infinity first.")
def padding_in_the_maximum(hidden, attention_mask):
    return hidden.amax(1)


@max_pool.mistake("tensor.max(1) returns two things, the values and where they were. Return .values, or use amax.")
def values_and_places(hidden, attention_mask):
    return hidden.masked_fill(attention_mask.unsqueeze(-1) == 0, float("-inf")).max(1)


@max_pool.mistake("Those are the places of the maxima (argmax). The maxima themselves are wanted.")
def places(hidden, attention_mask):
    return hidden.masked_fill(attention_mask.unsqueeze(-1) == 0, float("-inf")).argmax(1)
