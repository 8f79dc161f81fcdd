"""Exercises of notebooks/08_sentence_bert.ipynb."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize

from .core import Case, exercise

# ---------------------------------------------------------------- 08.1


def sets_of_vectors() -> list[Case]:
    """(vectors,): (N, H), of different lengths."""
    draw = torch.Generator().manual_seed(8)
    lengths = torch.tensor([[1.0], [4.0], [0.5], [2.0], [3.0], [1.0]])
    crowded = (torch.randn(6, 4, generator=draw) + 3) * lengths
    spread = torch.randn(5, 8, generator=draw) * lengths[:5]
    return [
        Case("one direction, three lengths", torch.tensor([[1.0, 0.0], [2.0, 0.0], [5.0, 0.0]])),
        Case("two vectors at a right angle", torch.tensor([[3.0, 0.0], [0.0, 2.0]])),
        Case("two opposite vectors and one between", torch.tensor([[2.0, 0.0], [-1.0, 0.0], [0.0, 4.0]])),
        Case("six vectors in a narrow cone", crowded),
        Case("five vectors that spread", spread),
    ]


@exercise(
    "08.1",
    "How alike is everything?",
    "easy",
    cases=sets_of_vectors,
    hints=[
        "Make each vector one long. Then a dot product is a cosine, and one matrix product gives all of them.",
        "unit = torch.nn.functional.normalize(vectors, dim=-1) is (N, H), unit @ unit.T is (N, N). On its diagonal each vector meets itself: those N cosines are 1 and must not count.",
        "There are N * (N - 1) other places. So: table = unit @ unit.T, then (table.sum() - len(vectors)) / (len(vectors) * (len(vectors) - 1)), since the diagonal adds up to N.",
    ],
    why="This is the anisotropy of section 3. It is the floor from which any cosine of the same model has to be read.",
)
def mean_cosine(vectors):
    n = len(vectors)
    unit = torch.nn.functional.normalize(vectors, dim=-1)  # (N, H): every vector is 1 long
    table = unit @ unit.T  # (N, N): all cosines
    others = table.sum() - table.trace()  # without the N cosines of a vector with itself
    return others / (n * (n - 1))


@mean_cosine.mistake("Those are dot products: long vectors count more than short ones, and the result may exceed 1. Divide each vector by its length first.")
def dot_products(vectors):
    table = vectors @ vectors.T
    return (table.sum() - table.trace()) / (len(table) * (len(table) - 1))


@mean_cosine.mistake("The diagonal counts too: each vector has cosine 1 with itself. Leave those N cosines out, and divide by the number of the others.")
def diagonal_counted(vectors):
    unit = normalize(vectors, dim=-1)
    return (unit @ unit.T).mean()


@mean_cosine.mistake("The diagonal is out of your sum but not out of your count. N * N - N cosines are left: divide by N * (N - 1).")
def divided_by_all(vectors):
    unit = normalize(vectors, dim=-1)
    return ((unit @ unit.T).sum() - len(unit)) / len(unit) ** 2


@mean_cosine.mistake("Each pair stands once in your sum, above the diagonal, but you divide as if it stood twice. There are N * (N - 1) / 2 pairs.")
def half_of_the_table(vectors):
    return mean_cosine.solution(vectors) / 2


@mean_cosine.mistake("triu(1) keeps its shape, (N, N), with zeros below: mean() divides by all N * N places. Divide the sum by the number of pairs, N * (N - 1) / 2.")
def mean_with_the_zeros(vectors):
    unit = normalize(vectors, dim=-1)
    return (unit @ unit.T).triu(1).mean()


@mean_cosine.mistake("You normalise along the batch (dim 0), each column for itself. A vector is a row: use dim=-1.")
def normalised_down_the_columns(vectors):
    unit = normalize(vectors, dim=0)
    table = unit @ unit.T
    return (table.sum() - table.trace()) / (len(table) * (len(table) - 1))


# ---------------------------------------------------------------- 08.2


def batches_of_triples() -> list[Case]:
    """(anchors, positives, negatives): (B, H) each. Positives are near their anchor, negatives a little less."""
    draw = torch.Generator().manual_seed(18)

    def batch(b: int, h: int, noise: float) -> list[torch.Tensor]:
        anchors = torch.randn(b, h, generator=draw)
        near, less = (anchors + scale * torch.randn(b, h, generator=draw) for scale in (noise, 1.5 * noise))
        return [rows * (0.5 + 2 * torch.rand(b, 1, generator=draw)) for rows in (anchors, near, less)]

    return [
        Case("three triples", *batch(3, 4, 1.0)),
        Case("a batch of one", *batch(1, 4, 1.0)),
        Case("six triples, far from solved", *batch(6, 3, 2.0)),
        Case("four triples, nearly solved", *batch(4, 16, 0.5)),
    ]


@exercise(
    "08.2",
    "The ranking loss with hard negatives",
    "medium",
    cases=batches_of_triples,
    hints=[
        "It is a classification. Each anchor chooses among 2B candidates, all positives and all negatives of the batch. Its own positive is the right class.",
        "candidates = torch.cat([positives, negatives]) is (2B, H). Normalise both sides: 20 times the cosines of anchors and candidates is a table of logits, (B, 2B). In which column stands the right one of row i?",
        "a, c = (torch.nn.functional.normalize(x, dim=-1) for x in (anchors, candidates)); logits = 20 * a @ c.T; the right classes are torch.arange(B).",
        "return torch.nn.functional.cross_entropy(logits, torch.arange(len(anchors)))",
    ],
    why="Nobody labelled the wrong partners: the batch supplies most of them, and the third column adds one that is hard to tell from the right one.",
)
def ranking_loss(anchors, positives, negatives):
    candidates = torch.cat([positives, negatives])  # (2B, H): the right ones come first
    a = torch.nn.functional.normalize(anchors, dim=-1)  # (B, H)
    c = torch.nn.functional.normalize(candidates, dim=-1)  # (2B, H)
    logits = 20 * a @ c.T  # (B, 2B): 20 times the cosine
    right = torch.arange(len(anchors))  # (B,): the positive of row i stands in column i
    return torch.nn.functional.cross_entropy(logits, right)


def _cosines(one, other):
    return normalize(one, dim=-1) @ normalize(other, dim=-1).T


@ranking_loss.mistake("The scale is missing. Cosines lie between -1 and 1, so without the factor 20 the softmax stays almost flat, even for perfect vectors.")
def no_scale(anchors, positives, negatives):
    return cross_entropy(_cosines(anchors, torch.cat([positives, negatives])), torch.arange(len(anchors)))


@ranking_loss.mistake("Your logits are dot products, so long vectors win. The cosine is wanted: normalise anchors and candidates first.")
def dot_products_as_logits(anchors, positives, negatives):
    return cross_entropy(20 * anchors @ torch.cat([positives, negatives]).T, torch.arange(len(anchors)))


@ranking_loss.mistake("The third column does not take part. Put the negatives behind the positives: each anchor has 2B candidates.")
def negatives_left_out(anchors, positives, negatives):
    return cross_entropy(20 * _cosines(anchors, positives), torch.arange(len(anchors)))


@ranking_loss.mistake("Your right class is 0 for every anchor. That is the positive of the first anchor only: the positive of anchor i stands in column i, so use torch.arange(B).")
def always_the_first(anchors, positives, negatives):
    return cross_entropy(20 * _cosines(anchors, torch.cat([positives, negatives])), torch.zeros(len(anchors), dtype=torch.long))


@ranking_loss.mistake("Each anchor sees all positives, but of the negatives only its own: B + 1 candidates. The negatives of the other anchors are candidates too: 2B.")
def own_negative_only(anchors, positives, negatives):
    own = torch.cosine_similarity(anchors, negatives, dim=-1).unsqueeze(1)
    return cross_entropy(20 * torch.cat([_cosines(anchors, positives), own], dim=1), torch.arange(len(anchors)))


@ranking_loss.mistake("That is the sum over the anchors. Take the mean, which is what cross_entropy does by itself.")
def sum_over_the_anchors(anchors, positives, negatives):
    return len(anchors) * ranking_loss.solution(anchors, positives, negatives)


@ranking_loss.mistake("Each anchor sees its own triple only, two candidates. The partners of all other anchors are candidates too: that is what in-batch negatives means.")
def own_triple_only(anchors, positives, negatives):
    both = torch.stack([torch.cosine_similarity(anchors, x, dim=-1) for x in (positives, negatives)], dim=1)
    return cross_entropy(20 * both, torch.zeros(len(anchors), dtype=torch.long))


# ---------------------------------------------------------------- 08.3


def lists_to_compare() -> list[Case]:
    """(a, b): grades with ties, and cosines."""
    draw = np.random.default_rng(3)
    grades = np.array([0, 0, 1, 2.5, 2.5, 2.5, 4, 5, 5, 3, 1, 0])
    return [
        Case("the same order, far from a line", np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.1, 0.2, 0.3, 0.95])),
        Case("five pairs, no ties", np.array([3.0, 0.5, 4.0, 1.0, 5.0]), np.array([0.62, 0.71, 0.55, 0.90, 0.93])),
        Case("opposite orders", np.array([1.0, 2.0, 5.0]), np.array([0.9, 0.4, 0.3])),
        Case("two equal grades", np.array([5.0, 1.0, 5.0, 0.0]), np.array([0.9, 0.8, 0.4, 0.2])),
        Case("twelve pairs, many equal grades", grades, np.round(grades / 10 + draw.normal(0, 0.2, 12), 2)),
        Case("ties on both sides", np.array([2.0, 2.0, 1.0, 3.0, 0.0, 3.0]), np.array([0.5, 0.7, 0.5, 0.7, 0.1, 0.2])),
    ]


@exercise(
    "08.3",
    "Spearman by hand",
    "medium",
    cases=lists_to_compare,
    hints=[
        "Spearman is the ordinary correlation (Pearson) of the ranks. So the work is in the ranks: write a small function for them and use it on both lists.",
        "The rank of a value is the number of smaller values, plus a half of the number of equal ones (itself included), plus a half. For [1, 4, 4, 2] that gives 1, 3.5, 3.5, 2.",
        "For x of shape (N,): smaller = (x[:, None] > x[None, :]).sum(1) and equal = (x[:, None] == x[None, :]).sum(1). The ranks are smaller + (equal + 1) / 2. A loop over the values does the same.",
        "Then return np.corrcoef(ranks(a), ranks(b))[0, 1].",
    ],
    why="Only the order counts, so cosines need not look like grades. Our grades have many ties, and what ties get changes the result.",
)
def spearman(a, b):
    def ranks(x):
        smaller = (x[:, None] > x[None, :]).sum(1)  # (N,): how many values are smaller
        equal = (x[:, None] == x[None, :]).sum(1)  # (N,): how many are equal, itself included
        return smaller + (equal + 1) / 2  # (N,): equal values share the mean of their places

    return np.corrcoef(ranks(a), ranks(b))[0, 1]  # Pearson's correlation of the ranks


def _ranks(x):
    return (x[:, None] > x[None, :]).sum(1) + ((x[:, None] == x[None, :]).sum(1) + 1) / 2


@spearman.mistake("That is Pearson's correlation of the values: it asks for a straight line. Replace both lists by their ranks first.")
def pearson_of_the_values(a, b):
    return np.corrcoef(a, b)[0, 1]


@spearman.mistake("argsort once says which element comes first, second and so on. A rank is the other way round: the place of each element. (argsort of argsort is nearer.)")
def argsort_once(a, b):
    return np.corrcoef(a.argsort(), b.argsort())[0, 1]


@spearman.mistake("A rank is the other way round: the place of each element.")
def stable_argsort_once(a, b):  # another result than argsort() on some machines only
    return np.corrcoef(a.argsort(kind="stable"), b.argsort(kind="stable"))[0, 1]


@spearman.mistake("argsort of argsort gives equal values different ranks, by where they stand in the list. Equal values must share the mean of their places.")
def argsort_of_argsort(a, b):
    return np.corrcoef(*(x.argsort().argsort() for x in (a, b)))[0, 1]


@spearman.mistake("Equal values must share the mean of their places.")
def ties_by_position(a, b):  # another result than argsort() on some machines only
    return np.corrcoef(*(x.argsort(kind="stable").argsort(kind="stable") for x in (a, b)))[0, 1]


@spearman.mistake("Equal values all got the lowest of their places. They share the mean of their places, so two values on the places 3 and 4 both get 3.5.")
def ties_get_the_lowest(a, b):
    return np.corrcoef(*((x[:, None] > x[None, :]).sum(1) for x in (a, b)))[0, 1]


@spearman.mistake("The short formula with the squared differences of ranks is exact only without ties. Your ranks are right: take Pearson's correlation of them.")
def short_formula(a, b):
    return 1 - 6 * ((_ranks(a) - _ranks(b)) ** 2).sum() / (len(a) * (len(a) ** 2 - 1))


# ---------------------------------------------------------------- 08.4


def models_to_compare() -> list[Case]:
    """(grades, ours, theirs, draws): two models' cosines of the same pairs, and a few bootstrap draws."""

    def pairs(seed: int, n: int, ours: float, theirs: float, together: float) -> list[np.ndarray]:
        draw = np.random.default_rng(seed)
        grades = draw.integers(0, 6, n).astype(float)
        shared = together * draw.normal(size=n)  # what is hard for both models
        cosines = [np.tanh(0.3 * (grades * weight + shared + draw.normal(0, 0.4, n))) for weight in (ours, theirs)]
        return [grades, *cosines, draw.integers(n, size=(40, n))]

    return [
        Case("a clear lead", *pairs(1, 24, 0.5, 0.05, 0.5)),
        Case("two models with the same troubles", *pairs(2, 20, 0.35, 0.3, 1.0)),
        Case("ours is behind", *pairs(3, 16, 0.0, 0.5, 0.3)),
    ]


@exercise(
    "08.4",
    "Is the lead real?",
    "hard",
    cases=models_to_compare,
    parts=("lead", "low", "high"),
    hints=[
        "The unit that is drawn is a pair with all that belongs to it: its grade and the cosines of both models. One draw gives one lead.",
        "A row of draws holds N positions. NumPy picks them at once: grades[row], ours[row], theirs[row], each (N,). The lead of this draw is the difference of two correlations.",
        "def lead(g, o, t): return spearmanr(o, g).statistic - spearmanr(t, g).statistic. The first result is lead(grades, ours, theirs), every pair once.",
        "leads = [lead(grades[row], ours[row], theirs[row]) for row in draws]; low, high = np.percentile(leads, [2.5, 97.5]); return the three numbers.",
    ],
    why="Both models meet the same lucky and unlucky pairs. Subtracting within a draw cancels that luck, so the interval is usually narrower than two separate ones suggest.",
)
def lead_interval(grades, ours, theirs, draws):
    from scipy.stats import spearmanr

    def lead(g, o, t):  # (N,) each -> how far ours is ahead
        return spearmanr(o, g).statistic - spearmanr(t, g).statistic

    leads = [lead(grades[row], ours[row], theirs[row]) for row in draws]  # D numbers: one set of pairs for both models
    low, high = np.percentile(leads, [2.5, 97.5])
    return lead(grades, ours, theirs), low, high


def _rho(one, other):
    one, other = _ranks(one), _ranks(other)
    return np.corrcoef(one, other)[0, 1]


def _leads(grades, ours, theirs, draws):
    return np.array([_rho(ours[row], grades[row]) - _rho(theirs[row], grades[row]) for row in draws])


@lead_interval.mistake("You made an interval for each model and subtracted the ends. That is no interval of the difference: subtract inside each draw, then take the percentiles once.")
def two_intervals_subtracted(grades, ours, theirs, draws):
    first, second = (np.percentile([_rho(x[row], grades[row]) for row in draws], [2.5, 97.5]) for x in (ours, theirs))
    return (_rho(ours, grades) - _rho(theirs, grades), *(first - second))


@lead_interval.mistake("Your two models are scored on different draws. Use one row of draws for both, or the luck of the pairs does not cancel.")
def a_draw_for_each(grades, ours, theirs, draws):
    first, second = (np.array([_rho(x[row], grades[row]) for row in rows]) for x, rows in ((ours, draws), (theirs, np.roll(draws, 1, 0))))
    return (_rho(ours, grades) - _rho(theirs, grades), *np.percentile(first - second, [2.5, 97.5]))


@lead_interval.mistake("You draw the cosines but leave the grades in place, so each cosine meets the grade of another pair. A pair keeps its grade: use grades[row] as well.")
def grades_not_drawn(grades, ours, theirs, draws):
    leads = [_rho(ours[row], grades) - _rho(theirs[row], grades) for row in draws]
    return (_rho(ours, grades) - _rho(theirs, grades), *np.percentile(leads, [2.5, 97.5]))


@lead_interval.mistake("The percentiles 5 and 95 leave 10 % outside. For a 95 % interval 2.5 % lie outside at each end: 2.5 and 97.5.")
def ninety_per_cent(grades, ours, theirs, draws):
    return (_rho(ours, grades) - _rho(theirs, grades), *np.percentile(_leads(grades, ours, theirs, draws), [5, 95]))


@lead_interval.mistake("Your first number is the mean of the draws. The lead itself is computed on the pairs as they are, each once; the draws only say how far it may move.")
def mean_of_the_draws(grades, ours, theirs, draws):
    leads = _leads(grades, ours, theirs, draws)
    return (leads.mean(), *np.percentile(leads, [2.5, 97.5]))
