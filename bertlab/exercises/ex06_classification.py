"""Exercises of notebooks/06_classification.ipynb."""

import numpy as np
import torch

from .core import Case, exercise


def encoded_sentences() -> list[Case]:
    """(hidden, weight, bias) of batches of several sizes, for two labels and for three."""
    draw = torch.Generator().manual_seed(6)

    def case(name: str, batch: int, length: int, size: int, labels: int) -> Case:
        return Case(name, *(torch.randn(*shape, generator=draw) for shape in ((batch, length, size), (labels, size), (labels,))))

    return [
        case("three sentences of three tokens, two numbers a vector", 3, 3, 2, 2),
        case("two sentences, two labels", 2, 4, 5, 2),
        case("two sentences, three labels", 2, 6, 4, 3),
        case("a batch of one", 1, 3, 4, 2),
    ]


@exercise(
    "06.1",
    "A head on [CLS]",
    "easy",
    cases=encoded_sentences,
    hints=[
        "[CLS] is the first token of every sentence. So you need one vector out of each row of the batch, not all vectors of one row.",
        "Shapes: hidden[:, 0] is (B, H), weight is (labels, H). To get (B, labels) from them, turn the weight round: weight.T is (H, labels).",
        "The bias, (labels,), is added to every row: hidden[:, 0] @ weight.T + bias. There is no softmax: logits are scores before it.",
    ],
    why="A classifier on BERT is no more than this: one vector for each text, one linear layer, one score for each label.",
)
def cls_logits(hidden, weight, bias):
    cls = hidden[:, 0]  # (B, H): the first token of every sentence
    return cls @ weight.T + bias  # (B, H) @ (H, labels) + (labels,) -> (B, labels)


@cls_logits.mistake("hidden[0] is the first sentence, with all its tokens. The first token of every sentence is hidden[:, 0].")
def first_sentence(hidden, weight, bias):
    return hidden[0] @ weight.T + bias


@cls_logits.mistake("The weight has the shape (labels, H), as in torch.nn.Linear. Multiply by weight.T, which is (H, labels).")
def weight_not_turned(hidden, weight, bias):
    return hidden[:, 0] @ weight + bias


@cls_logits.mistake("The bias is missing. Add it to the scores: one number for each label.")
def no_bias(hidden, weight, bias):
    return hidden[:, 0] @ weight.T


@cls_logits.mistake("Those are probabilities. Logits are the scores before the softmax, so leave the softmax out.")
def probabilities(hidden, weight, bias):
    return (hidden[:, 0] @ weight.T + bias).softmax(-1)


@cls_logits.mistake("That is a head on the mean of the tokens, as in section 5. Here the head reads the vector of [CLS] alone.")
def head_on_the_mean(hidden, weight, bias):
    return hidden.mean(1) @ weight.T + bias


def scored_sentences() -> list[Case]:
    """(logits, labels): unsure, sure and wrong, and so sure that a probability is rounded to 0."""
    draw = torch.Generator().manual_seed(7)
    return [
        Case("four sentences, two labels", torch.randn(4, 2, generator=draw), torch.tensor([1, 0, 0, 1])),
        Case("three sentences, five labels", 2 * torch.randn(3, 5, generator=draw), torch.tensor([4, 0, 2])),
        Case("a batch of one, and the head is undecided", torch.zeros(1, 2), torch.tensor([1])),
        Case("sure and wrong: logits of 200 and -200", torch.tensor([[200.0, -200.0], [1.0, 0.0]]), torch.tensor([1, 0])),
    ]


@exercise(
    "06.2",
    "Cross-entropy by hand",
    "medium",
    cases=scored_sentences,
    hints=[
        "The loss of one sentence is minus the logarithm of the probability that the head gives to the right label. The loss of a batch is the mean of these.",
        "logits.log_softmax(-1) has the logarithms of the probabilities, (B, labels): each row is a sentence. It is safe where softmax and then log would give minus infinity.",
        "To pick one entry of each row, give both indices: log_p[torch.arange(len(labels)), labels] is (B,). Put a minus in front, and take the mean: "
        "-logits.log_softmax(-1)[torch.arange(len(labels)), labels].mean().",
    ],
    why="This is all that BertForSequenceClassification does with labels. If you can compute it, you can tell whether a loss you see is sensible, such as ln 2 at the start.",
)
def classification_loss(logits, labels):
    log_p = logits.log_softmax(-1)  # (B, labels): logarithms of the probabilities of each sentence
    right = log_p[torch.arange(len(labels)), labels]  # (B,): that of the right label
    return -right.mean()  # (): small if the right labels are likely


@classification_loss.mistake("Your softmax runs down the batch, so the sentences compete with each other. It must run over the labels of each sentence: the last dimension, -1.")
def softmax_over_the_batch(logits, labels):
    return -logits.log_softmax(0)[torch.arange(len(labels)), labels].mean()


@classification_loss.mistake("Your loss is negative: the minus is missing. A logarithm of a probability is never above 0, and a loss is to be made small.")
def no_minus(logits, labels):
    return logits.log_softmax(-1)[torch.arange(len(labels)), labels].mean()


@classification_loss.mistake(
    "log_p[:, labels] gives every sentence the labels of all sentences, (B, B). Pair row and label: log_p[torch.arange(len(labels)), labels], which is (B,)."
)
def labels_of_all_sentences(logits, labels):
    return -logits.log_softmax(-1)[:, labels].mean()


@classification_loss.mistake("That is the sum over the batch. Take the mean, so that the loss does not grow with the number of sentences.")
def sum_over_the_batch(logits, labels):
    return -logits.log_softmax(-1)[torch.arange(len(labels)), labels].sum()


@classification_loss.mistake("A probability too small for a float becomes 0, and the logarithm of 0 is minus infinity. Take log_softmax in one step: it stays finite.")
def log_of_the_softmax(logits, labels):
    return -logits.softmax(-1)[torch.arange(len(labels)), labels].log().mean()


def tiny_classifiers() -> list[Case]:
    """(model,): BertForSequenceClassification with random weights, of two sizes."""
    from transformers import BertConfig, BertForSequenceClassification

    def case(name: str, layers: int, labels: int) -> Case:
        config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=8, max_position_embeddings=8, num_labels=labels)
        return Case(name, BertForSequenceClassification(config))

    with torch.random.fork_rng(devices=[]):  # the learner's own draws go on as if no model had been made
        return [case("one layer, two labels", 1, 2), case("two layers, three labels", 2, 3)]


A_SWITCH_THAT_IS_NONE = "You set an attribute named requires_grad on a module, and torch ignores it. Call the method: module.requires_grad_(False), with the underscore at its end."
EVAL_IS_NO_FREEZE = "eval() switches dropout off; the weights still learn. To freeze them, call requires_grad_(False)."
ENCODER_IS_A_PART = "model.bert.encoder is only the layers: the embeddings below and the pooler above still learn. Freeze model.bert as a whole."
POOLER_LEARNS = "The pooler still learns. It belongs to model.bert, so freeze it as well."
HEAD_FROZEN = "The classifier is frozen, too, so nothing can be learnt. Freeze model.bert and leave model.classifier as it is."


def what_still_learns(result, model) -> str:
    """What is wrong with a model in which only the classifier should learn; "" if nothing."""
    if not isinstance(result, torch.nn.Module):
        return "Return the model itself, after you have frozen its encoder."
    if [name for name, _ in result.named_parameters()] != [name for name, _ in model.named_parameters()]:
        return "Return the whole model that came in, not a part of it or another one."
    learns = {name for name, parameter in result.named_parameters() if parameter.requires_grad}
    parts = {name.removeprefix("bert.").split(".")[0] for name in learns}  # of embeddings, encoder, pooler, classifier
    head = {name for name, _ in model.named_parameters() if name.startswith("classifier.")}
    if learns == head:
        return ""
    if not learns:
        return HEAD_FROZEN
    if not head <= learns:
        return "The classifier, or a part of it, is frozen. It is the part that must learn: freeze model.bert instead."
    if any("requires_grad" in vars(module) for module in result.modules()):
        return A_SWITCH_THAT_IS_NONE
    if parts >= {"embeddings", "encoder"} and not result.bert.training:
        return EVAL_IS_NO_FREEZE
    if parts == {"embeddings", "pooler", "classifier"}:
        return ENCODER_IS_A_PART
    if parts == {"pooler", "classifier"}:
        return POOLER_LEARNS
    return f"{len(learns - head)} parameters of model.bert still learn, the first of them {next(n for n, _ in model.named_parameters() if n in learns)}. Only the classifier's may."


@exercise(
    "06.3",
    "Freeze the encoder",
    "medium",
    cases=tiny_classifiers,
    judge=what_still_learns,
    hints=[
        "A parameter learns if its requires_grad is True, and so they all are at first. Set it to False for the parameters that must stay as they are.",
        "model.bert is everything below the head: embeddings, layers and pooler. Its parameters are model.bert.parameters(). You need not touch model.classifier.",
        "A loop does it: for parameter in model.bert.parameters(): parameter.requires_grad = False. Shorter: model.bert.requires_grad_(False). Then return model.",
    ],
    why="A frozen parameter gets no gradient, so backward() stops at the head. Print what still learns before you train: a wrong freeze raises no error.",
)
def freeze_encoder(model):
    for parameter in model.bert.parameters():  # embeddings, layers and pooler
        parameter.requires_grad = False  # a switch of each parameter, not of the module
    return model  # model.classifier was not touched: it learns


@freeze_encoder.mistake(HEAD_FROZEN)
def everything_frozen(model):
    return model.requires_grad_(False)


@freeze_encoder.mistake(A_SWITCH_THAT_IS_NONE)
def attribute_of_the_module(model):
    model.bert.requires_grad = False
    return model


@freeze_encoder.mistake(EVAL_IS_NO_FREEZE)
def eval_instead_of_freezing(model):
    model.bert.eval()
    return model


@freeze_encoder.mistake(ENCODER_IS_A_PART)
def the_layers_alone(model):
    model.bert.encoder.requires_grad_(False)
    return model


@freeze_encoder.mistake(POOLER_LEARNS)
def pooler_forgotten(model):
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.requires_grad_(False)
    return model


def answers_on_the_same_sentences() -> list[Case]:
    """(right_a, right_b, draws): which answers of two classifiers are right, and which sentences each draw takes."""
    rng = np.random.default_rng(8)
    a = (rng.random(60) < 0.8).astype(int)
    b = np.where(rng.random(60) < 0.15, 1 - a, a)  # mostly right and wrong on the same sentences as a
    independent = (rng.random(40) < 0.5).astype(int)

    def draws(n: int, count: int = 500) -> np.ndarray:
        return rng.integers(n, size=(count, n))

    return [
        Case("four sentences, two draws", np.array([1, 1, 0, 1]), np.array([1, 0, 0, 1]), np.array([[0, 1, 2, 3], [1, 1, 0, 2]])),
        Case("two models that mostly agree", a, b, draws(60)),
        Case("two models that always agree", a, a, draws(60)),
        Case("a good model against a coin", np.ones(40, dtype=int), independent, draws(40)),
        Case("the second model is better", independent, np.ones(40, dtype=int), draws(40)),
    ]


@exercise(
    "06.4",
    "Is the gap luck? A paired bootstrap",
    "hard",
    cases=answers_on_the_same_sentences,
    parts=("low", "high"),
    hints=[
        "Every draw is a small test of its own: the same drawn sentences for both models. So each draw gives one gap, the accuracy of a minus the accuracy of b.",
        "Indexing with a (D, N) array gives a (D, N) array: right_a[draws] has a row for each draw. Its .mean(1), (D,), is the accuracy of a in each draw.",
        "The middle 95 % leaves out 2.5 % on each side: np.percentile(gaps, 2.5) and np.percentile(gaps, 97.5). It takes per cent, not shares.",
        "gaps = right_a[draws].mean(1) - right_b[draws].mean(1), then low, high = np.percentile(gaps, [2.5, 97.5]), and return low, high.",
    ],
    why="Most sentences are easy or hard for both models. Drawing them together lets that luck cancel, so a paired interval can see a smaller gap.",
)
def gap_interval(right_a, right_b, draws):
    gaps = right_a[draws].mean(1) - right_b[draws].mean(1)  # (D,): both models on the same drawn sentences
    low, high = np.percentile(gaps, [2.5, 97.5])  # the middle 95 %
    return low, high


@gap_interval.mistake(
    "You made an interval for each model and subtracted their ends. That is too wide: it forgets that both answered the same sentences. Subtract within each draw, then take the percentiles."
)
def two_intervals_subtracted(right_a, right_b, draws):
    (low_a, high_a), (low_b, high_b) = (np.percentile(right[draws].mean(1), [2.5, 97.5]) for right in (right_a, right_b))
    return low_a - high_b, high_a - low_b


@gap_interval.mistake("You made an interval for each model and subtracted low from low and high from high. That is no interval of the gap: subtract within each draw, then take the percentiles once.")
def same_ends_subtracted(right_a, right_b, draws):
    return tuple(np.percentile(right_a[draws].mean(1), [2.5, 97.5]) - np.percentile(right_b[draws].mean(1), [2.5, 97.5]))


@gap_interval.mistake("You subtracted the other way round. The gap is the accuracy of a minus the accuracy of b.")
def b_minus_a(right_a, right_b, draws):
    return gap_interval.solution(right_b, right_a, draws)


@gap_interval.mistake("The 5th and the 95th percentile leave out 5 % on each side: that is a 90 % interval. For 95 % take 2.5 and 97.5.")
def ninety_per_cent(right_a, right_b, draws):
    return tuple(np.percentile(right_a[draws].mean(1) - right_b[draws].mean(1), [5, 95]))


@gap_interval.mistake("np.percentile takes per cent: 0.025 means 0.025 %, which is nearly the smallest gap. Write 2.5 and 97.5 (or use np.quantile, which takes shares).")
def shares_for_per_cent(right_a, right_b, draws):
    return tuple(np.percentile(right_a[draws].mean(1) - right_b[draws].mean(1), [0.025, 0.975]))


@gap_interval.mistake("Your mean runs over the draws. Each row of draws is one test, so average within the row: .mean(1).")
def mean_over_the_draws(right_a, right_b, draws):
    return tuple(np.percentile(right_a[draws].mean(0) - right_b[draws].mean(0), [2.5, 97.5]))


@gap_interval.mistake("The mean gap minus and plus one standard deviation holds only about 68 % of the gaps. Take the percentiles 2.5 and 97.5.")
def one_standard_deviation(right_a, right_b, draws):
    gaps = right_a[draws].mean(1) - right_b[draws].mean(1)
    return gaps.mean() - gaps.std(), gaps.mean() + gaps.std()
