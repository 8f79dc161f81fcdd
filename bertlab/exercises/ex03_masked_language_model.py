"""Exercises of notebooks/03_masked_language_model.ipynb."""

import math

import torch
import torch.nn.functional as F

from .core import Case, exercise

PAD, CLS, SEP, MASK = 0, 1, 2, 3  # of the small vocabularies in the cases


def chosen_tokens() -> list[Case]:
    """(input_ids, chosen) with the ids of BERT's vocabulary; [CLS], [SEP] and [PAD] are never chosen."""
    ids = torch.tensor([[101, 1996, 4937, 2938, 1012, 102], [101, 2175, 1012, 102, 0, 0]])
    some = torch.tensor([[0, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0]]).bool()
    return [
        Case("two sentences, three tokens chosen", ids, some),
        Case("one sentence, all its words chosen", ids[:1], torch.tensor([[0, 1, 1, 1, 1, 0]]).bool()),
        Case("a short sentence, nothing chosen", ids[1:, :4], torch.zeros(1, 4, dtype=torch.bool)),
    ]


@exercise(
    "03.1",
    "Labels that ask only where you want",
    "easy",
    cases=chosen_tokens,
    hints=[
        "There are two kinds of places: chosen ones get their own id as the label, all others get the number that the loss skips. Which number is that?",
        "The labels have the shape of input_ids, (B, T). Make a tensor of -100 everywhere: torch.full_like(input_ids, -100). Then put the true ids in where chosen is True.",
        "labels = torch.full_like(input_ids, -100), then labels[chosen] = input_ids[chosen], then return labels. In one line: torch.where(chosen, input_ids, -100).",
    ],
    why="The labels alone decide where the model is asked. Whatever is not -100 goes into the loss, whether you meant it or not.",
)
def mlm_labels(input_ids, chosen):
    labels = torch.full_like(input_ids, -100)  # (B, T): ask nowhere
    labels[chosen] = input_ids[chosen]  # ask at the chosen tokens, for their true ids
    return labels  # (B, T)


@mlm_labels.mistake("You wrote -1 where nothing is asked. Old tutorials do that. Today's loss takes -1 for the id of a token: the number that it skips is -100.")
def minus_one(input_ids, chosen):
    return input_ids.masked_fill(~chosen, -1)


@mlm_labels.mistake("You wrote 0 where nothing is asked. 0 is the id of [PAD], so the loss would ask for [PAD] at all these places. Write -100.")
def zero(input_ids, chosen):
    return input_ids * chosen


@mlm_labels.mistake("Every token is a label here. Then most of the loss comes from copying words in plain sight, and from padding. Put -100 wherever chosen is False.")
def every_token_is_asked(input_ids, chosen):
    return input_ids


@mlm_labels.mistake("You wrote the id of [MASK] as the label. [MASK] is what the model sees. The label is what it has to find: the true id, from input_ids.")
def the_mask_as_label(input_ids, chosen):
    return torch.full_like(input_ids, -100).masked_fill(chosen, 103)


@mlm_labels.mistake("You put -100 at the chosen tokens, so they are the only ones that are not asked for. It is the other way round: -100 belongs where chosen is False, which is ~chosen.")
def the_wrong_side(input_ids, chosen):
    return input_ids.masked_fill(chosen, -100)


def sentences_with_a_hole() -> list[Case]:
    """(logits, input_ids, mask_token_id, token_id): one [MASK] a row, each in another place; V = 7."""
    draw = torch.Generator().manual_seed(3)
    two = torch.tensor([[CLS, 5, MASK, 4, SEP], [CLS, MASK, SEP, PAD, PAD]])
    last = torch.tensor([[CLS, 6, 5, MASK, SEP], [CLS, 4, MASK, 6, SEP], [CLS, MASK, 5, 5, SEP]])
    return [
        Case("two sentences, one padded", 2 * torch.randn(2, 5, 7, generator=draw), two, MASK, 4),
        Case("a batch of one", 2 * torch.randn(1, 5, 7, generator=draw), two[:1], MASK, 6),
        Case("three sentences, all logits negative", torch.randn(3, 5, 7, generator=draw) - 8, last, MASK, 5),
    ]


@exercise(
    "03.2",
    "How probable is this word in the hole?",
    "easy",
    cases=sentences_with_a_hole,
    hints=[
        "Three steps: find the hole in each row, turn its logits into probabilities, read off one of them.",
        "input_ids == mask_token_id is (B, T), True at the holes. logits[that] is (B, V): the one row of logits that belongs to each hole.",
        "Softmax runs over the vocabulary, the last axis: logits[input_ids == mask_token_id].softmax(-1), of shape (B, V). Its column [:, token_id] is the answer, of shape (B,).",
    ],
    why="A logit says nothing alone. It becomes a probability when it is compared with those of all other pieces of the vocabulary, at the same place.",
)
def mask_probability(logits, input_ids, mask_token_id, token_id):
    hole = input_ids == mask_token_id  # (B, T): one True a row
    p = logits[hole].softmax(-1)  # (B, V): each row sums to 1
    return p[:, token_id]  # (B,)


@mask_probability.mistake("Your softmax runs over the tokens of the sentence, so the pieces of the vocabulary do not compete. It must run over the last axis, V: softmax(-1).")
def softmax_over_the_tokens(logits, input_ids, mask_token_id, token_id):
    return logits.softmax(1)[input_ids == mask_token_id][:, token_id]


@mask_probability.mistake("Your softmax runs over the sentences of the batch. With a batch of one it always gives 1. It must run over the vocabulary, the last axis: softmax(-1).")
def softmax_over_the_batch(logits, input_ids, mask_token_id, token_id):
    return logits[input_ids == mask_token_id].softmax(0)[:, token_id]


@mask_probability.mistake("A sigmoid looks at one logit alone. Here exactly one piece of V is right, so they must share a total of 1: use softmax over the last axis.")
def sigmoid(logits, input_ids, mask_token_id, token_id):
    return logits[input_ids == mask_token_id].sigmoid()[:, token_id]


@mask_probability.mistake("Those are raw logits: they may be negative, and they do not sum to 1. Apply softmax over the last axis before you read off the number.")
def raw_logits(logits, input_ids, mask_token_id, token_id):
    return logits[input_ids == mask_token_id][:, token_id]


@mask_probability.mistake("Those are logarithms of probabilities, 0 or negative. Use softmax(-1), without the log.")
def log_probabilities(logits, input_ids, mask_token_id, token_id):
    return logits[input_ids == mask_token_id].log_softmax(-1)[:, token_id]


@mask_probability.mistake("That is the probability of the model's best guess. The question is about one given piece: take the column token_id.")
def the_best_guess(logits, input_ids, mask_token_id, token_id):
    return logits[input_ids == mask_token_id].softmax(-1).max(-1).values


def throws_of_dice() -> list[Case]:
    """(input_ids, chosen, draw, random_ids, mask_token_id): every fate for chosen tokens, and for others too."""
    ids = torch.tensor([[101, 11, 12, 13, 14, 15, 102], [101, 21, 22, 23, 24, 102, 0]])
    chosen = torch.tensor([[0, 1, 1, 1, 0, 0, 0], [0, 0, 1, 0, 1, 0, 0]]).bool()
    draw = torch.tensor([[0.31, 0.12, 0.84, 0.95, 0.86, 0.05, 0.88], [0.82, 0.97, 0.71, 0.81, 0.89, 0.45, 0.83]])
    random_ids = torch.arange(500, 514).reshape(2, 7)
    at_the_borders = torch.tensor([[0.0, 0.8, 0.9, 0.79, 0.89, 0.9, 0.8]], dtype=torch.float64)
    return [
        Case("two sentences with padding, every fate", ids, chosen, draw, random_ids, 103),
        Case("a batch of one, nothing chosen", ids[:1], torch.zeros(1, 7, dtype=torch.bool), draw[:1], random_ids[:1], 103),
        Case("all words chosen, and another id for [MASK]", ids[:1], torch.tensor([[0, 1, 1, 1, 1, 1, 0]]).bool(), draw[:1], random_ids[:1], 4),
        Case("draws of exactly 0.8 and 0.9", ids[:1], torch.tensor([[0, 1, 1, 1, 1, 1, 0]]).bool(), at_the_borders, random_ids[:1], 103),
        Case("one word chosen, with a draw above 0.9", ids[:1], torch.tensor([[0, 0, 0, 1, 0, 0, 0]]).bool(), draw[:1], random_ids[:1], 103),
    ]


@exercise(
    "03.3",
    "80, 10 and 10 per cent",
    "medium",
    cases=throws_of_dice,
    hints=[
        "Work on a copy, input_ids.clone(): in training the labels still need the true ids (this is not checked). Then write two masks of True and False, one for [MASK] and one for the random ids. Kept tokens need no work.",
        "Both masks are (B, T), and both begin with chosen &: a token that was not chosen never changes. With & each comparison needs brackets: chosen & (draw < 0.8).",
        "The second mask is swapped = chosen & (draw >= 0.8) & (draw < 0.9). A mask picks the same places on both sides: out[swapped] = random_ids[swapped].",
        "out = input_ids.clone(); out[chosen & (draw < 0.8)] = mask_token_id; then the line of hint 3; return out.",
    ],
    why="The draw of a chosen token decides its fate. Tokens that were not chosen stay as they are: they are the clues.",
)
def corrupt(input_ids, chosen, draw, random_ids, mask_token_id):
    out = input_ids.clone()  # (B, T): the labels still need the true ids
    hidden = chosen & (draw < 0.8)  # (B, T): 80 % of the chosen tokens
    swapped = chosen & (draw >= 0.8) & (draw < 0.9)  # (B, T): 10 %
    out[hidden] = mask_token_id
    out[swapped] = random_ids[swapped]
    return out  # the other chosen tokens, 10 %, are kept


@corrupt.mistake("Every chosen token became [MASK]. Only those with a draw below 0.8 do: the model must also meet wrong words and right words that it is asked for.")
def everything_masked(input_ids, chosen, draw, random_ids, mask_token_id):
    return input_ids.masked_fill(chosen, mask_token_id)


@corrupt.mistake("Random and kept are exchanged. A draw from 0.8 to 0.9 gives a random id, and a draw of 0.9 or more keeps the token.")
def random_and_kept_exchanged(input_ids, chosen, draw, random_ids, mask_token_id):
    out = torch.where(chosen & (draw < 0.8), mask_token_id, input_ids)
    return torch.where(chosen & (draw >= 0.9), random_ids, out)


@corrupt.mistake("You changed tokens that were not chosen, [CLS], [SEP] and padding among them. Every mask must begin with chosen &.")
def chosen_is_forgotten(input_ids, chosen, draw, random_ids, mask_token_id):
    out = torch.where(draw < 0.8, mask_token_id, input_ids)
    return torch.where((draw >= 0.8) & (draw < 0.9), random_ids, out)


@corrupt.mistake("[MASK] is right, but the random ids went to 10 % of all tokens, not to 10 % of the chosen ones. Begin that mask with chosen & as well.")
def ten_per_cent_of_all(input_ids, chosen, draw, random_ids, mask_token_id):
    out = torch.where(chosen & (draw < 0.8), mask_token_id, input_ids)
    return torch.where((draw >= 0.8) & (draw < 0.9), random_ids, out)


@corrupt.mistake("A draw of exactly 0.8 gives a random id, and one of exactly 0.9 keeps the token: below 0.8 is [MASK], < and not <=.")
def borders_on_the_wrong_side(input_ids, chosen, draw, random_ids, mask_token_id):
    out = torch.where(chosen & (draw <= 0.8), mask_token_id, input_ids)
    return torch.where(chosen & (draw > 0.8) & (draw <= 0.9), random_ids, out)


@corrupt.mistake("A draw of exactly 0.8 became [MASK]. Only a draw below 0.8 does: <, not <=.")
def mask_at_the_border(input_ids, chosen, draw, random_ids, mask_token_id):
    out = torch.where(chosen & (draw <= 0.8), mask_token_id, input_ids)
    return torch.where(chosen & (draw > 0.8) & (draw < 0.9), random_ids, out)


@corrupt.mistake("A draw of exactly 0.9 got a random id. It keeps the token: the random ids end below 0.9, < and not <=.")
def random_at_the_border(input_ids, chosen, draw, random_ids, mask_token_id):
    out = torch.where(chosen & (draw < 0.8), mask_token_id, input_ids)
    return torch.where(chosen & (draw >= 0.8) & (draw <= 0.9), random_ids, out)


@corrupt.mistake("There is no [MASK] left: draw < 0.9 is also true for every draw below 0.8, so the random ids overwrite [MASK]. Ask for draw >= 0.8 as well.")
def random_overwrites_the_mask(input_ids, chosen, draw, random_ids, mask_token_id):
    out = torch.where(chosen & (draw < 0.8), mask_token_id, input_ids)
    return torch.where(chosen & (draw < 0.9), random_ids, out)


def logits_and_labels() -> list[Case]:
    """(logits, labels) with unequal numbers of asked tokens a row; V = 6."""
    draw = torch.Generator().manual_seed(4)
    logits = 2 * torch.randn(3, 5, 6, generator=draw)
    labels = torch.tensor([[-100, 4, -100, -100, -100], [-100, 5, 0, 3, -100], [-100, -100, -100, -100, -100]])
    return [
        Case("two sentences, one and three tokens asked", logits[:2], labels[:2]),
        Case("one sentence, one token asked", logits[:1], labels[:1]),
        Case("equal logits for 10 pieces", torch.zeros(1, 4, 10), torch.tensor([[-100, 3, 7, -100]])),
        Case("three sentences, in one of them nothing asked", logits, labels),
        Case("nothing asked at all", logits[2:], labels[2:]),
    ]


@exercise(
    "03.4",
    "The loss over the asked tokens",
    "medium",
    cases=logits_and_labels,
    hints=[
        "First throw away what is not asked: asked = labels != -100 is (B, T). Let N be the number of True in it, over the whole batch.",
        "logits[asked] is (N, V) and labels[asked] is (N,). log_softmax(-1) turns the logits into log-probabilities. The loss of a token is minus the one at its label.",
        "gather picks one number from each row: log_p.gather(1, labels[asked].unsqueeze(1)) is (N, 1). Take the mean of all N and change its sign.",
        "If nothing is asked: if not asked.any(): return 0.0. Else return -logits[asked].log_softmax(-1).gather(1, labels[asked].unsqueeze(1)).mean().",
    ],
    why="The mean runs over the asked tokens of the whole batch. Counting others makes the loss small without making the model good, and a mean over nothing is NaN.",
)
def mlm_loss(logits, labels):
    asked = labels != -100  # (B, T)
    if not asked.any():
        return 0.0  # a mean over nothing would be NaN
    log_p = logits[asked].log_softmax(-1)  # (N, V): only the N asked tokens
    of_truth = log_p.gather(1, labels[asked].unsqueeze(1))  # (N, 1): one number a row
    return -of_truth.mean()


@mlm_loss.mistake("The sum is right, but you divide by all B × T places. Divide by the number of asked tokens, (labels != -100).sum().")
def mean_over_all_places(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / labels.numel()


@mlm_loss.mistake("That is the sum over the asked tokens. It grows with the size of the batch: divide by their number.")
def sum_instead_of_mean(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")


@mlm_loss.mistake("All is right but for a batch in which nothing is asked: there you take a mean over nothing, which is NaN. Return 0 in that case, before you compute anything.")
def nan_when_nothing_is_asked(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


@mlm_loss.mistake("Each sentence counts the same in your mean, however many tokens are asked in it. Take one mean over all asked tokens of the batch: logits[labels != -100] puts them in one list, (N, V).")
def mean_of_the_sentences_means(logits, labels):
    means = [F.cross_entropy(row, truth) for row, truth in zip(logits, labels) if (truth != -100).any()]
    return sum(means) / max(len(means), 1)


@mlm_loss.mistake("cross_entropy takes the second dimension for the choices, and here that is T, not V. Flatten first: (B * T, V) scores and (B * T,) labels. And mind a batch in which nothing is asked.")
def not_flattened(logits, labels):
    return F.cross_entropy(logits, labels)


@mlm_loss.mistake("cross_entropy takes the second dimension for the choices, and here that is T, not V. Flatten first: (B * T, V) scores and (B * T,) labels.")
def not_flattened_but_guarded(logits, labels):
    return F.cross_entropy(logits, labels) if (labels != -100).any() else 0.0


@mlm_loss.mistake("-100 is not the id of a token, so no number can be looked up with it. Keep only the asked tokens first: logits[labels != -100] is (N, V) and labels[labels != -100] is (N,).")
def minus_100_as_an_index(logits, labels):
    return -logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).mean()


def small_reader(seed: int, size: int = 8):
    """A function (B, T) -> logits (B, T, V) in which each token sees itself and its two neighbours, as far as they are not hidden."""
    draw = torch.Generator().manual_seed(seed)
    left, right = (1.5 * torch.randn(size, size, generator=draw) for _ in range(2))  # what a neighbour hints at
    itself = 5 * torch.eye(size)  # a word in plain sight is easy
    for table in (left, right, itself):
        table[MASK] = 0  # a hidden token gives nothing away

    def logits_of(ids):
        if not isinstance(ids, torch.Tensor) or ids.ndim != 2:
            raise ValueError(f"logits_of needs ids of shape (B, T), not {tuple(getattr(ids, 'shape', ()))}: put a batch dimension in front, ids.unsqueeze(0)")
        before, after = F.pad(ids, (1, 0))[:, :-1], F.pad(ids, (0, 1))[:, 1:]  # (B, T)
        return itself[ids] + left[before] + right[after]  # (B, T, V)

    return logits_of


def texts_to_score() -> list[Case]:
    """(input_ids, special, logits_of, mask_token_id)"""
    reader = small_reader(5)
    return [
        Case("four words", torch.tensor([CLS, 5, 7, 4, 6, SEP]), torch.tensor([1, 0, 0, 0, 0, 1]), reader, MASK),
        Case("two words, read by another model", torch.tensor([CLS, 6, 6, SEP]), torch.tensor([1, 0, 0, 1]), small_reader(6), MASK),
        Case("two sentences with a [SEP] between them", torch.tensor([CLS, 4, 7, SEP, 5, 6, SEP]), torch.tensor([1, 0, 0, 1, 0, 0, 1]), reader, MASK),
        Case("300 words", torch.tensor([CLS, *[4 + n % 4 for n in range(300)], SEP]), torch.tensor([1, *[0] * 300, 1]), reader, MASK),
        Case("no word at all", torch.tensor([CLS, SEP]), torch.tensor([1, 1]), reader, MASK),
    ]


@exercise(
    "03.5",
    "How well does a text fit the model?",
    "hard",
    cases=texts_to_score,
    hints=[
        "Write a loop over the positions t. Skip those with special[t] == 1. For each other position: hide this token, ask the model, note one number, go on.",
        "Make a fresh copy for each position, hidden = input_ids.clone(), and set hidden[t] = mask_token_id. logits_of wants a batch: hidden.unsqueeze(0) is (1, T), and the answer is (1, T, V).",
        "You need one row of the answer, [0, t], which is (V,). log_softmax(-1) makes log-probabilities of it, and the entry at input_ids[t] is the one of the true token.",
        "In the loop: log_p = logits_of(hidden.unsqueeze(0))[0, t].log_softmax(-1), then total = total + log_p[input_ids[t]]. Begin with total = 0.0 and return it after the loop.",
    ],
    why="Each token is guessed with all others in sight, so the score says how well every word fits its sentence. A sum of logarithms stays readable where a product of many probabilities becomes 0.",
)
def pseudo_log_likelihood(input_ids, special, logits_of, mask_token_id):
    total = 0.0
    for t in range(len(input_ids)):
        if special[t]:
            continue  # [CLS] and [SEP] are in every text: nothing to guess
        hidden = input_ids.clone()  # (T,): a fresh copy, so that only one token is hidden
        hidden[t] = mask_token_id
        log_p = logits_of(hidden.unsqueeze(0))[0, t].log_softmax(-1)  # (V,)
        total = total + log_p[input_ids[t]]  # the true token's log-probability
    return total


def _log_probabilities(input_ids, rows, logits_of):
    """(T,): log-probability of the true token t when the model reads rows[t]."""
    return torch.stack([logits_of(row.unsqueeze(0))[0, t].log_softmax(-1)[input_ids[t]] for t, row in enumerate(rows)])


@pseudo_log_likelihood.mistake("All words are hidden at the same time, so no word can help to guess another. Hide one at a time: a fresh copy of input_ids for each position.")
def all_at_once(input_ids, special, logits_of, mask_token_id):
    hidden = torch.where(special == 0, mask_token_id, input_ids)
    return _log_probabilities(input_ids, [hidden] * len(input_ids), logits_of)[special == 0].sum()


@pseudo_log_likelihood.mistake("You also hide and count the special tokens. [CLS] and [SEP] are in every text and say nothing about it: skip the positions where special is 1.")
def special_tokens_counted(input_ids, special, logits_of, mask_token_id):
    rows = [torch.where(torch.arange(len(input_ids)) == t, mask_token_id, input_ids) for t in range(len(input_ids))]
    return _log_probabilities(input_ids, rows, logits_of).sum()


@pseudo_log_likelihood.mistake("You multiplied probabilities. For a long text that product becomes 0. Add up the log-probabilities instead: the result is 0 or negative.")
def product_of_probabilities(input_ids, special, logits_of, mask_token_id):
    rows = [torch.where(torch.arange(len(input_ids)) == t, mask_token_id, input_ids) for t in range(len(input_ids))]
    return _log_probabilities(input_ids, rows, logits_of)[special == 0].sum().exp()


@pseudo_log_likelihood.mistake("You take the logarithm of a product of probabilities. In a long text the product becomes 0, and its logarithm is minus infinity. Add up the logarithms instead.")
def logarithm_of_the_product(input_ids, special, logits_of, mask_token_id):
    rows = [torch.where(torch.arange(len(input_ids)) == t, mask_token_id, input_ids) for t in range(len(input_ids))]
    return _log_probabilities(input_ids, rows, logits_of)[special == 0].exp().prod().log()


@pseudo_log_likelihood.mistake("You multiply the probabilities and take one logarithm at the end. In a long text the product becomes 0, and 0 has no logarithm. Add up the logarithms instead.")
def math_log_of_the_product(input_ids, special, logits_of, mask_token_id):
    rows = [torch.where(torch.arange(len(input_ids)) == t, mask_token_id, input_ids) for t in range(len(input_ids))]
    return math.log(math.prod(_log_probabilities(input_ids, rows, logits_of)[special == 0].exp().tolist()))


@pseudo_log_likelihood.mistake("That is the mean over the words. The sum is wanted: do not divide.")
def mean_of_the_logarithms(input_ids, special, logits_of, mask_token_id):
    return pseudo_log_likelihood.solution(input_ids, special, logits_of, mask_token_id) / max(1, int((special == 0).sum()))


@pseudo_log_likelihood.mistake("Your sign is turned round. The logarithm of a probability is 0 or negative, and so is the sum.")
def sign_turned(input_ids, special, logits_of, mask_token_id):
    return -pseudo_log_likelihood.solution(input_ids, special, logits_of, mask_token_id)


@pseudo_log_likelihood.mistake("Nothing is hidden: the model reads the word that it should guess, and copies it. Put mask_token_id in its place before you ask.")
def nothing_hidden(input_ids, special, logits_of, mask_token_id):
    return _log_probabilities(input_ids, [input_ids] * len(input_ids), logits_of)[special == 0].sum()


@pseudo_log_likelihood.mistake("The first word is right, but each one you hide stays hidden for the rest of the loop. Start every round with a fresh copy: hidden = input_ids.clone().")
def hidden_for_good(input_ids, special, logits_of, mask_token_id):
    rows = [torch.where((torch.arange(len(input_ids)) <= t) & (special == 0), mask_token_id, input_ids) for t in range(len(input_ids))]
    return _log_probabilities(input_ids, rows, logits_of)[special == 0].sum()
