"""Exercises of notebooks/05_pretraining.ipynb."""

import math

import torch

from .core import Case, exercise


def moments_of_a_run() -> list[Case]:
    """(seen, total, warm_up) at several moments of runs with a longer, a shorter and no warm-up."""
    return [
        Case("the first step", 0, 1000, 0.1),
        Case("the middle of the warm-up", 50, 1000, 0.1),
        Case("the end of the warm-up", 100, 1000, 0.1),
        Case("the middle of the fall", 550, 1000, 0.1),
        Case("the end of the run", 1000, 1000, 0.1),
        Case("a long warm-up, three quarters done", 30_000, 40_000, 0.5),
        Case("no warm-up, the first step", 0, 1000, 0.0),
        Case("no warm-up, a quarter done", 250, 1000, 0.0),
    ]


@exercise(
    "05.1",
    "The learning rate on its way up and down",
    "easy",
    cases=moments_of_a_run,
    hints=[
        "Work with the share of the run that is done: share = seen / total. Then warm_up and share are the same kind of number.",
        "There are two straight lines. While share < warm_up, the result goes from 0 to 1. After that it goes from 1 to 0, and this second line is 1 - warm_up long.",
        "Going up: share / warm_up. Going down: what is left of the run, 1 - share, divided by the length of the line, 1 - warm_up. "
        "So: if share < warm_up: return share / warm_up, and else return (1 - share) / (1 - warm_up).",
    ],
    why="At first the weights are random and AdamW has seen few gradients, so the first steps are small. Towards the end small steps let the weights settle.",
)
def rate_factor(seen, total, warm_up):
    share = seen / total  # how much of the run is done, 0 to 1
    if share < warm_up:  # never true if warm_up is 0: nothing is divided by 0
        return share / warm_up  # up: 0 at the start, 1 at warm_up
    return (1 - share) / (1 - warm_up)  # down: 1 at warm_up, 0 at the end


@rate_factor.mistake("There is no warm-up: your factor begins at 1 and falls from there. Let it rise from 0 to 1 while share < warm_up.")
def no_warm_up(seen, total, warm_up):
    return 1 - seen / total


@rate_factor.mistake("After the warm-up your factor stays at 1. Let it fall along a straight line, so that it is 0 when seen is total.")
def no_decay(seen, total, warm_up):
    share = seen / total
    return share / warm_up if share < warm_up else 1.0


@rate_factor.mistake("Your factor jumps down at the end of the warm-up: it must begin its fall at 1. Divide 1 - share by the part of the run that is left after the warm-up.")
def a_jump_after_the_warm_up(seen, total, warm_up):
    share = seen / total
    return share / warm_up if share < warm_up else 1 - share


@rate_factor.mistake("Your factor does not reach 0 at the end: it falls as if it had the whole run for it. It has only 1 - warm_up of the run, so divide by that.")
def ends_above_zero(seen, total, warm_up):
    share = seen / total
    return share / warm_up if share < warm_up else 1 - (share - warm_up)


@rate_factor.mistake("You take warm_up for a number of tokens. It is a share of the run: the warm-up ends at warm_up * total tokens.")
def share_taken_for_tokens(seen, total, warm_up):
    return seen / warm_up if seen < warm_up else (total - seen) / (total - warm_up)


@rate_factor.mistake("Without a warm-up you divide 0 by 0 at the first step. Go up only while share < warm_up, with < and not <=: with warm_up = 0 that is never.")
def zero_by_zero(seen, total, warm_up):
    share = seen / total
    return share / warm_up if share <= warm_up else (1 - share) / (1 - warm_up)


@rate_factor.mistake("You compare a number of tokens (seen) with a share (warm_up). Divide seen by total first, then compare.")
def tokens_against_a_share(seen, total, warm_up):
    if seen < warm_up:
        return seen / warm_up
    return (1 - seen / total) / (1 - warm_up)


def scored_batches() -> list[Case]:
    """(losses, counts): the mean loss of each batch, in nats, and how many tokens were asked in it."""
    return [
        Case("one batch, a model that knows nothing of 290 pieces", [math.log(290)], [100]),
        Case("two batches, one three times as large", [1.0, 3.0], [30, 10]),
        Case("a small batch with a high loss", [0.5, 0.7, 4.0], [400, 380, 5]),
        Case("a batch in which nothing was asked", [2.0, 0.0, 1.0], [50, 0, 100]),
        Case("a perfect model", [0.0, 0.0], [7, 9]),
    ]


@exercise(
    "05.2",
    "Perplexity over many batches",
    "medium",
    cases=scored_batches,
    hints=[
        "Perplexity is e to the power of the mean loss of a token. So first find the mean over all asked tokens, and take the power once, at the end.",
        "loss times count is the summed loss of a batch. Add these sums up over the batches, and divide by the sum of the counts.",
        "mean = sum(loss * count for loss, count in zip(losses, counts)) / sum(counts), and the perplexity is math.exp(mean).",
    ],
    why="Batches have different numbers of asked tokens, so a mean of batch means gives a token of a small batch more weight than one of a large batch.",
)
def perplexity(losses, counts):
    total = sum(loss * count for loss, count in zip(losses, counts))  # nats, over all asked tokens
    mean = total / sum(counts)  # nats a token
    return math.exp(mean)  # the power comes last


@perplexity.mistake("You give every batch the same weight. Multiply each loss by its count, add up, and divide by the sum of the counts.")
def every_batch_alike(losses, counts):
    return math.exp(sum(losses) / len(losses))


@perplexity.mistake("You average the perplexities of the batches. Average the losses over the asked tokens first, and take e to the power of that mean once.")
def mean_of_perplexities(losses, counts):
    return sum(map(math.exp, losses)) / len(losses)


@perplexity.mistake("Your weights are right, but you take the power of each batch's loss and average then. Average the losses first: the power comes last.")
def weighted_mean_of_perplexities(losses, counts):
    return sum(math.exp(loss) * count for loss, count in zip(losses, counts)) / sum(counts)


@perplexity.mistake("You take 2 to the power of the loss. These losses are in nats (natural logarithms), so the base is e: math.exp.")
def two_to_the_power(losses, counts):
    return 2 ** (sum(loss * count for loss, count in zip(losses, counts)) / sum(counts))


@perplexity.mistake("That is the mean loss of an asked token, as it should be. One step is missing: math.exp of it.")
def the_loss_itself(losses, counts):
    return sum(loss * count for loss, count in zip(losses, counts)) / sum(counts)


def scored_pairs() -> list[Case]:
    """(logits, labels, next_logits, next_labels) of batches, also such in which one loss, or both, has nothing to ask."""
    draw = torch.Generator().manual_seed(5)

    def case(name: str, labels: list[list[int]], next_labels: list[int]) -> Case:
        batch, length = len(labels), len(labels[0])
        logits = 2 * torch.randn(batch, length, 7, generator=draw)
        return Case(name, logits, torch.tensor(labels), 2 * torch.randn(batch, 2, generator=draw), torch.tensor(next_labels))

    return [
        case("two pairs with asked tokens", [[-100, 3, -100, 5], [-100, -100, 0, -100]], [0, 1]),
        case("three inputs, one of them without B", [[-100, 3], [6, -100], [-100, -100]], [1, -100, 0]),
        case("a batch of one", [[-100, 4, 1, -100, -100]], [1]),
        case("no token was chosen", [[-100, -100, -100], [-100, -100, -100]], [1, 0]),
        case("no input has a B", [[-100, 2, 6], [1, -100, -100]], [-100, -100]),
        case("nothing is asked at all", [[-100, -100, -100]], [-100]),
    ]


@exercise(
    "05.3",
    "Both losses, also when nothing is asked",
    "hard",
    cases=scored_pairs,
    hints=[
        "torch.nn.functional.cross_entropy skips the label -100 by itself. But it divides by the number of the other labels, and if there are none, that is 0 / 0: NaN.",
        "Shapes: cross_entropy wants (N, V) scores and (N,) labels. logits.flatten(0, 1) is (B * T, V), and labels.flatten() is (B * T,). The next-sentence tensors fit as they are.",
        "With reduction='sum' cross_entropy adds up and does not divide. Divide yourself, by max(1, number of labels that are not -100): then 0 / 1 is 0.",
        "Write a helper and use it twice: def mean_loss(scores, targets): return torch.nn.functional.cross_entropy(scores, targets, reduction='sum') / max(1, int((targets != -100).sum())). "
        "The answer is mean_loss(logits.flatten(0, 1), labels.flatten()) + mean_loss(next_logits, next_labels).",
    ],
    why="One NaN in a loss makes every weight NaN at the next step, and the run is lost. Short inputs make batches in which nothing is asked, sooner or later.",
)
def pretraining_loss(logits, labels, next_logits, next_labels):
    def mean_loss(scores, targets):  # (N, choices) and (N,)
        total = torch.nn.functional.cross_entropy(scores, targets, reduction="sum")  # -100 adds nothing
        return total / max(1, int((targets != -100).sum()))  # 0 / 1, not 0 / 0, where nothing is asked

    mlm = mean_loss(logits.flatten(0, 1), labels.flatten())  # (B * T, V) and (B * T,)
    nsp = mean_loss(next_logits, next_labels)  # (B, 2) and (B,)
    return mlm + nsp


@pretraining_loss.mistake(
    "If all labels are -100, cross_entropy divides 0 by 0, which is NaN. Take reduction='sum', and divide by the number of asked labels, but at least by 1."
)
def nan_where_nothing_is_asked(logits, labels, next_logits, next_labels):
    mlm = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    return mlm + torch.nn.functional.cross_entropy(next_logits, next_labels)


@pretraining_loss.mistake("You divide by all positions, but most of them are -100 and ask nothing. Divide by the number of labels that are not -100.")
def divided_by_all_positions(logits, labels, next_logits, next_labels):
    mlm = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    nsp = torch.nn.functional.cross_entropy(next_logits, next_labels, reduction="sum")
    return mlm / labels.numel() + nsp / next_labels.numel()


@pretraining_loss.mistake("Where one of the two has nothing to ask, you return 0 for both. Let only that one be 0: the other still teaches.")
def both_skipped(logits, labels, next_logits, next_labels):
    if (labels == -100).all() or (next_labels == -100).all():
        return torch.tensor(0.0)
    return pretraining_loss.solution(logits, labels, next_logits, next_labels)


@pretraining_loss.mistake("You average the two losses. BertForPreTraining adds them: MLM loss + NSP loss.")
def averaged(logits, labels, next_logits, next_labels):
    return pretraining_loss.solution(logits, labels, next_logits, next_labels) / 2


@pretraining_loss.mistake("cross_entropy takes the second dimension for the choices, and here that is T, not V. Flatten first: (B * T, V) scores and (B * T,) labels.")
def not_flattened(logits, labels, next_logits, next_labels):
    mlm = torch.nn.functional.cross_entropy(logits, labels)
    return mlm + torch.nn.functional.cross_entropy(next_logits, next_labels)
