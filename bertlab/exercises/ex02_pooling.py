"""Exercises of notebooks/02_pooling.ipynb."""

import torch

from .core import Case, exercise


def padded_batches() -> list[Case]:
    """(hidden_states, attention_mask) of batches with less and more padding; the vectors at [PAD] are not zero."""
    draw = torch.Generator().manual_seed(2)
    full = torch.randn(1, 3, 4, generator=draw)
    two = torch.randn(2, 4, 2, generator=draw)
    three = torch.randn(3, 6, 2, generator=draw) - 3  # all numbers are negative
    large = 100 * torch.randn(2, 4, 2, generator=draw)
    return [
        Case("one sentence without padding", full, torch.ones(1, 3, dtype=torch.long)),
        Case("a long and a short sentence", two, torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])),
        Case("three sentences, all numbers negative", three, torch.tensor([[1, 1, 1, 0, 0, 0], [1] * 6, [1, 1, 1, 1, 1, 0]])),
        Case("large numbers", large, torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])),
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


@mean_pool.mistake("You divide every row by the number of real tokens in the whole batch. Count each row for itself: .sum(1), not .sum().")
def divided_by_the_whole_batch(hidden, attention_mask):
    return (hidden * attention_mask.unsqueeze(-1)).sum(1) / attention_mask.sum()


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


@max_pool.mistake("You subtract 10 at the padding. A large number at [PAD] stays the greatest in spite of that: fill with minus infinity.")
def too_little_subtracted(hidden, attention_mask):
    return (hidden - 10 * (1 - attention_mask).unsqueeze(-1)).amax(1)


@max_pool.mistake("tensor.max(1) returns two things, the values and where they were. Return .values, or use amax.")
def values_and_places(hidden, attention_mask):
    return hidden.masked_fill(attention_mask.unsqueeze(-1) == 0, float("-inf")).max(1)


@max_pool.mistake("Those are the places of the maxima (argmax). The maxima themselves are wanted.")
def places(hidden, attention_mask):
    return hidden.masked_fill(attention_mask.unsqueeze(-1) == 0, float("-inf")).argmax(1)


def pairs_of_vectors() -> list[Case]:
    """Two batches of vectors: same direction, opposite direction, right angle, and by chance."""
    draw = torch.Generator().manual_seed(5)
    known = torch.tensor([[3.0, 4.0], [1.0, 2.0], [2.0, 0.0]]), torch.tensor([[6.0, 8.0], [-2.0, -4.0], [0.0, 5.0]])
    return [
        Case("three pairs: same direction, opposite, at right angles", *known),
        Case("one pair alone", torch.randn(1, 5, generator=draw), torch.randn(1, 5, generator=draw)),
        Case("four pairs by chance", 3 * torch.randn(4, 6, generator=draw), torch.randn(4, 6, generator=draw)),
    ]


@exercise(
    "02.3",
    "The cosine of each pair",
    "medium",
    cases=pairs_of_vectors,
    hints=[
        "The cosine is the dot product after both vectors were given length 1. Which axis holds the numbers of one vector?",
        "The length of each vector is a.norm(dim=1, keepdim=True), of shape (B, 1), so a / that is a batch of vectors of length 1. The dot product of a row of a with its row of b "
        "is the sum of the products along axis 1.",
        "a = a / a.norm(dim=1, keepdim=True), the same for b, and then return (a * b).sum(1).",
    ],
    why="The cosine asks for the direction only. Without the division, a long vector looks more similar to everything.",
)
def cosine_of_pairs(a, b):
    a = a / a.norm(dim=1, keepdim=True)  # (B, H): every row has length 1
    b = b / b.norm(dim=1, keepdim=True)  # (B, H)
    return (a * b).sum(1)  # (B,): row i of a with row i of b


@cosine_of_pairs.mistake("That is the dot product: it grows with the length of the vectors. Divide each vector by its length first.")
def not_divided(a, b):
    return (a * b).sum(1)


@cosine_of_pairs.mistake("Only a has length 1 now. Divide b by its own lengths too, or the result still grows with b.")
def only_one_divided(a, b):
    return (a / a.norm(dim=1, keepdim=True) * b).sum(1)


@cosine_of_pairs.mistake("You divided along axis 0, across the batch. A vector is a row: its length is taken along axis 1 (dim=1).")
def lengths_across_the_batch(a, b):
    return (a / a.norm(dim=0, keepdim=True) * (b / b.norm(dim=0, keepdim=True))).sum(1)


@cosine_of_pairs.mistake("You compared every row of a with every row of b: (B, B). Only row i with row i is wanted, so multiply number by number and sum along axis 1.")
def every_row_with_every_row(a, b):
    return (a / a.norm(dim=1, keepdim=True)) @ (b / b.norm(dim=1, keepdim=True)).T


@cosine_of_pairs.mistake("You divided by the sums of the squares. The length is the square root of that sum.")
def square_root_left_out(a, b):
    return (a * b).sum(1) / ((a * a).sum(1) * (b * b).sum(1))


def texts_with_special_tokens() -> list[Case]:
    """(hidden, attention_mask), padding on the right; the last case has a text of [CLS] and [SEP] only."""
    draw = torch.Generator().manual_seed(6)
    shapes = (1, 5, 3), (2, 6, 2), (3, 5, 2)
    one, two, three = (torch.randn(*shape, generator=draw) + 1 for shape in shapes)
    return [
        Case("one text without padding", one, torch.ones(1, 5, dtype=torch.long)),
        Case("a long and a short text", two, torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]])),
        Case("three texts, the second without any word", three, torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1] * 5])),
    ]


@exercise(
    "02.4",
    "The mean over the words alone",
    "medium",
    cases=texts_with_special_tokens,
    hints=[
        "A mean with a mask is what you have written in 02.1. So all that you need is another mask: a copy in which [CLS] and [SEP] are 0 too.",
        "[CLS] is at place 0 of every row. [SEP] is at the last 1 of every row, and with padding on the right that is place attention_mask.sum(1) - 1, a number for each row.",
        "mask = attention_mask.clone(), mask[:, 0] = 0, and mask[torch.arange(len(mask)), attention_mask.sum(1) - 1] = 0. Then words = mask.unsqueeze(-1), and "
        "return (hidden * words).sum(1) / words.sum(1).clamp(min=1): the clamp makes 0/1 of 0/0.",
    ],
    why="A mask says what counts, and you may write your own. Where the last real token stands differs from row to row, and a row may have nothing left.",
)
def mean_of_words(hidden, attention_mask):
    mask = attention_mask.clone()  # (B, T): the caller's mask stays as it is
    mask[:, 0] = 0  # [CLS]
    mask[torch.arange(len(mask)), attention_mask.sum(1) - 1] = 0  # the last real token of each row: [SEP]
    words = mask.unsqueeze(-1)  # (B, T, 1)
    return (hidden * words).sum(1) / words.sum(1).clamp(min=1)  # (B, H): 0 where no word is left


def _mean(hidden, mask, least=1):
    return (hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp(min=least)


def _of_words(attention_mask):
    places = torch.arange(attention_mask.shape[1])
    return ((places > 0) & (places < attention_mask.sum(1, keepdim=True) - 1)).long()


@mean_of_words.mistake("You left out the last column. In a padded row that is [PAD], and [SEP] still counts. Find the last 1 of each row: attention_mask.sum(1) - 1.")
def last_column_left_out(hidden, attention_mask):
    return _mean(hidden[:, 1:-1], attention_mask[:, 1:-1])


@mean_of_words.mistake("The sum is right, but you still count [CLS] and [SEP] in the divisor. Divide by the number of words: sum the same mask that you multiplied by.")
def special_tokens_in_the_divisor(hidden, attention_mask):
    return (hidden * _of_words(attention_mask).unsqueeze(-1)).sum(1) / attention_mask.sum(1, keepdim=True)


@mean_of_words.mistake("[CLS] is out, [SEP] still counts. It is the last real token of each row.")
def sep_still_counts(hidden, attention_mask):
    return _mean(hidden[:, 1:], attention_mask[:, 1:])


@mean_of_words.mistake("That is the mean over all real tokens, with [CLS] and [SEP]. Set these two to 0 in a copy of the mask.")
def both_still_count(hidden, attention_mask):
    return _mean(hidden, attention_mask)


@mean_of_words.mistake("A text without words leaves 0/0, which is nan. Let the divisor be 1 at least: .clamp(min=1).")
def nothing_by_nothing(hidden, attention_mask):
    return _mean(hidden, _of_words(attention_mask), least=0)


def texts_with_weights() -> list[Case]:
    """(hidden, input_ids, attention_mask, weight_of_id); [PAD] is id 0 and has a weight, as every id has."""
    draw = torch.Generator().manual_seed(7)
    shapes = (1, 4, 3), (2, 5, 2), (2, 6, 2)
    one, two, left = (torch.randn(*shape, generator=draw) + 1 for shape in shapes)
    weights = torch.tensor([2.0, 0.5, 0.25, 1.0, 3.0, 1.5, 4.0, 0.0, 2.5])  # (9,)
    padded, on_the_left = torch.tensor([[1, 6, 3, 8, 2], [1, 4, 2, 0, 0]]), torch.tensor([[0, 0, 1, 5, 7, 2], [1, 7, 4, 4, 6, 2]])
    return [
        Case("one text without padding", one, torch.tensor([[1, 6, 5, 2]]), torch.ones(1, 4, dtype=torch.long), weights),
        Case("a long and a short text", two, padded, (padded != 0).long(), weights),
        Case("padding on the left, and a token of weight 0", left, on_the_left, (on_the_left != 0).long(), weights),
        Case("small weights, and [PAD] is another id", two, torch.tensor([[1, 6, 3, 8, 2], [1, 0, 2, 7, 7]]), (padded != 0).long(), 0.05 * weights),
    ]


@exercise(
    "02.5",
    "A mean with a weight for each token",
    "hard",
    cases=texts_with_weights,
    hints=[
        "First you need a weight for every token of the batch, (B, T). Then it is the mean of 02.1 with other numbers in place of zeros and ones.",
        "A tensor of ids can index a tensor: weight_of_id[input_ids] looks up every id and has the shape (B, T). [PAD] has an id and a weight as well: what must it be multiplied by?",
        "weight = weight_of_id[input_ids] * attention_mask is (B, T). The sum of the weighted vectors is (hidden * weight.unsqueeze(-1)).sum(1). "
        "Divide it by the sum of the weights, weight.sum(1, keepdim=True), not by the number of tokens.",
    ],
    why="The plain mean is the special case in which every real token weighs 1. Whatever the weights are, padding must weigh 0 in the sum and in the divisor.",
)
def weighted_mean(hidden, input_ids, attention_mask, weight_of_id):
    weight = weight_of_id[input_ids] * attention_mask  # (B, T): looked up by id, 0 at padding
    total = (hidden * weight.unsqueeze(-1)).sum(1)  # (B, H)
    return total / weight.sum(1, keepdim=True)  # (B, H): by the sum of the weights


@weighted_mean.mistake("[PAD] has a weight in the table too, and you let it count. Multiply the looked-up weights by attention_mask before anything else.")
def padding_has_weight(hidden, input_ids, attention_mask, weight_of_id):
    weight = weight_of_id[input_ids]
    return (hidden * weight.unsqueeze(-1)).sum(1) / weight.sum(1, keepdim=True)


@weighted_mean.mistake("Padding is out of the sum but still in the divisor. Add up the masked weights there too.")
def padding_in_the_divisor(hidden, input_ids, attention_mask, weight_of_id):
    weight = weight_of_id[input_ids]
    return (hidden * (weight * attention_mask).unsqueeze(-1)).sum(1) / weight.sum(1, keepdim=True)


@weighted_mean.mistake("You divide by the number of real tokens. Then a text of heavy words gets a longer vector. Divide by the sum of their weights.")
def divided_by_the_number_of_tokens(hidden, input_ids, attention_mask, weight_of_id):
    weight = weight_of_id[input_ids] * attention_mask
    return (hidden * weight.unsqueeze(-1)).sum(1) / attention_mask.sum(1, keepdim=True)


@weighted_mean.mistake("clamp(min=1) is for a count of tokens. A sum of weights may well be below 1, and then it changes the mean: leave it out.")
def weights_clamped(hidden, input_ids, attention_mask, weight_of_id):
    weight = weight_of_id[input_ids] * attention_mask
    return (hidden * weight.unsqueeze(-1)).sum(1) / weight.sum(1, keepdim=True).clamp(min=1)


@weighted_mean.mistake("You take every id other than 0 for a real token. The id of [PAD] is not 0 in every vocabulary: attention_mask says what is padding.")
def padding_by_id(hidden, input_ids, attention_mask, weight_of_id):
    return weighted_mean.solution(hidden, input_ids, (input_ids != 0).long(), weight_of_id)


@weighted_mean.mistake("That is the weighted sum, not yet the mean. Divide by the sum of the weights of each row.")
def sum_not_divided(hidden, input_ids, attention_mask, weight_of_id):
    return (hidden * (weight_of_id[input_ids] * attention_mask).unsqueeze(-1)).sum(1)


@weighted_mean.mistake("You took the first T weights of the table, one for each place. A weight belongs to an id: look it up with weight_of_id[input_ids].")
def weight_of_the_place(hidden, input_ids, attention_mask, weight_of_id):
    weight = weight_of_id[: input_ids.shape[1]] * attention_mask
    return (hidden * weight.unsqueeze(-1)).sum(1) / weight.sum(1, keepdim=True)
