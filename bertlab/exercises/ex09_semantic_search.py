"""Exercises of notebooks/09_semantic_search.ipynb."""

import numpy as np

from .core import Case, exercise

# ---------------------------------------------------------------- 09.1


def score_matrices() -> list[Case]:
    """(scores, k): a row a query, a column a passage; no two scores of a row are equal."""
    draw = np.random.default_rng(9)
    return [
        Case("one query, four passages", np.array([[0.2, 0.7, -0.1, 0.5]]), 2),
        Case("three queries, five passages", draw.uniform(-1, 1, (3, 5)), 3),
        Case("as many queries as passages", draw.uniform(-1, 1, (4, 4)), 2),
        Case("k is one", draw.uniform(-1, 1, (6, 7)), 1),
        Case("k is the number of passages", draw.uniform(-1, 1, (2, 3)), 3),
    ]


@exercise(
    "09.1",
    "The k best passages",
    "easy",
    cases=score_matrices,
    hints=[
        "Sorting tells you where each passage would go: np.argsort returns places, not scores. It sorts from the smallest to the largest.",
        "Sort -scores, and the largest score comes first. Each row is a query of its own, so sort along axis 1: the result is (Q, N), all passages of each query.",
        "From every row keep the first k columns: np.argsort(-scores, axis=1)[:, :k].",
    ],
    why="This is the whole search: one matrix of dot products and one sort. An index only makes it cheaper.",
)
def top_passages(scores, k):
    order = np.argsort(-scores, axis=1)  # (Q, N): the passages of each query, highest score first
    return order[:, :k]  # (Q, k)


@top_passages.mistake("np.argsort begins with the smallest, so those are the k worst passages. Sort -scores, and the best come first.")
def the_worst(scores, k):
    return np.argsort(scores, axis=1)[:, :k]


@top_passages.mistake("The right passages, but the best one stands last. Best first is wanted: sort -scores and take the first k.")
def best_last(scores, k):
    return np.argsort(scores, axis=1)[:, -k:]


@top_passages.mistake("Those are the scores themselves. To look up a passage you need its place: argsort instead of sort.")
def scores_instead_of_places(scores, k):
    return -np.sort(-scores, axis=1)[:, :k]


@top_passages.mistake("You sorted down the columns, so the queries compete for a passage. The passages compete for a query: sort along axis 1.")
def along_the_queries(scores, k):
    return np.argsort(-scores, axis=0)[:, :k]


@top_passages.mistake("[:k] keeps the first k queries with all their passages. Keep all queries and the first k columns: [:, :k].")
def first_k_queries(scores, k):
    return np.argsort(-scores, axis=1)[:k]


# ---------------------------------------------------------------- 09.2


def searches() -> list[Case]:
    """(ranked, relevant): the passages that each query found, best first, and the right ones."""
    return [
        Case("one right passage each", [[4, 7, 1], [0, 3, 2], [9, 8, 5]], [{4}, {3}, {5}]),
        Case("several right passages", [[5, 2, 6, 1], [3, 0, 8, 7]], [{1, 2}, {0, 7, 8}]),
        Case("a query that found no right passage", [[6, 1], [2, 3], [0, 9]], [{6}, {7}, {9, 4}]),
        Case("nothing found at all", [[1, 2], [3, 4]], [{5}, {6, 7}]),
        Case("a single query", [[8, 3, 6, 0, 2]], [{0, 1}]),
    ]


@exercise(
    "09.2",
    "Mean reciprocal rank",
    "medium",
    cases=searches,
    hints=[
        "One number for each query first, the mean at the very end. For a query walk down its list and stop at the first right passage.",
        "enumerate(found, 1) counts places from 1. `passage in right` is quick, as right is a set. A query without any right passage has 0.",
        "For each query, with for found, right in zip(ranked, relevant): next((1 / rank for rank, p in enumerate(found, 1) if p in right), 0). The second argument of next is what you get if nothing fits. Add these up and divide by len(ranked).",
    ],
    why="MRR looks at the first right passage alone and rewards first places most: from place 1 to 2 a query loses 0.5, from 9 to 10 about 0.01.",
)
def mean_reciprocal_rank(ranked, relevant):
    total = 0
    for found, right in zip(ranked, relevant):  # query by query
        for rank, passage in enumerate(found, 1):  # the first place has rank 1
            if passage in right:
                total += 1 / rank
                break  # only the first right passage counts; without one nothing is added
    return total / len(ranked)  # the mean over all queries


def _ranks(found, right) -> list[int]:
    """The places of all right passages, from 1."""
    return [rank for rank, passage in enumerate(found, 1) if passage in right]


@mean_reciprocal_rank.mistake("You count places from 0, and 1 / 0 does not exist. The first place has rank 1: use enumerate(found, 1).")
def places_from_zero(ranked, relevant):
    return sum(next((1 / place for place, p in enumerate(found) if p in right), 0) for found, right in zip(ranked, relevant)) / len(ranked)


@mean_reciprocal_rank.mistake("A query without a right passage has no rank, and you divide by it. Such a query gives 0.")
def division_at_a_miss(ranked, relevant):
    return sum(len(_ranks(*pair)[:1]) / sum(_ranks(*pair)[:1]) for pair in zip(ranked, relevant)) / len(ranked)


@mean_reciprocal_rank.mistake("The first and the second place count the same in your code: you count from 0 and take 0 for 1. Use enumerate(found, 1).")
def first_and_second_place_alike(ranked, relevant):
    return sum(next((1 / max(place, 1) for place, p in enumerate(found) if p in right), 0) for found, right in zip(ranked, relevant)) / len(ranked)


@mean_reciprocal_rank.mistake("That is the mean of the ranks. Take 1 / rank of each query first, then the mean: a place near the top must give a large number.")
def mean_of_the_ranks(ranked, relevant):
    first = [min(_ranks(*pair), default=0) for pair in zip(ranked, relevant)]
    return sum(first) / len(first)


@mean_reciprocal_rank.mistake("You averaged the ranks and turned the mean over. The reciprocal comes first: 1 / rank for each query, then the mean of those.")
def reciprocal_of_the_mean(ranked, relevant):
    first = [ranks[0] for pair in zip(ranked, relevant) if (ranks := _ranks(*pair))]
    return len(first) / sum(first) if first else 0


@mean_reciprocal_rank.mistake("You added 1 / rank for every right passage. Only the first one of each query counts: stop there.")
def every_right_passage(ranked, relevant):
    return sum(1 / rank for pair in zip(ranked, relevant) for rank in _ranks(*pair)) / len(ranked)


@mean_reciprocal_rank.mistake("You left out the queries that found no right passage. They count 0, so divide by the number of all queries.")
def misses_left_out(ranked, relevant):
    first = [ranks[0] for pair in zip(ranked, relevant) if (ranks := _ranks(*pair))]
    return sum(1 / rank for rank in first) / len(first)


# ---------------------------------------------------------------- 09.3


def several_rankings() -> list[Case]:
    """(rankings, constant): what several searches found, best first; ties only in the case that is about them."""
    tenth = [[10, 20, 30, 1, 2, 3, 4, 5, 6, 7], [20, 8, 30, 9, 11, 12, 13, 14, 15, 10]]
    return [
        Case("two searches, the same passages", [[3, 1, 2, 0], [1, 0, 3, 2]], 60),
        Case("passages that only one search found", [[5, 1, 2], [2, 7, 1]], 60),
        Case("first and tenth place against third place twice", tenth, 60),
        Case("the same points", [[4, 2], [2, 4]], 60),
        Case("three searches", [[0, 1, 2, 3], [3, 1, 4], [2, 5, 1, 3]], 60),
        Case("the same with a small constant", tenth, 1),
        Case("a small constant", [[1, 2, 3, 4, 5, 6], [3, 2, 4, 5, 6, 1]], 1),
        Case("one of the searches found nothing", [[6, 3, 8], []], 60),
    ]


@exercise(
    "09.3",
    "Two searches, one list",
    "medium",
    cases=several_rankings,
    hints=[
        "Give out points. Go through each list and add to what each passage has so far; a dict from passage to points is handy.",
        "points[p] = points.get(p, 0) + 1 / (constant + rank), with rank from enumerate(ranking, 1). A passage that a list lacks gets nothing from it, and that needs no code.",
        "Then sorted(points, key=lambda p: (-points[p], p)): the most points first, and among equal points the smaller number.",
    ],
    why="BM25 scores and cosines have different scales, ranks have none. So the fusion needs no weights, and a passage that two searches like usually comes before one that a single search likes.",
)
def fuse(rankings, constant):
    points = {}
    for ranking in rankings:
        for rank, passage in enumerate(ranking, 1):  # the first place has rank 1
            points[passage] = points.get(passage, 0) + 1 / (constant + rank)
    return sorted(points, key=lambda passage: (-points[passage], passage))  # most points first, then the smaller number


def _points(rankings, of_rank) -> dict:
    points: dict = {}
    for ranking in rankings:
        for rank, passage in enumerate(ranking, 1):
            points[passage] = points.get(passage, 0) + of_rank(rank)
    return points


def _most_first(points) -> list:
    return sorted(points, key=lambda p: (-points[p], p))


@fuse.mistake("You left out the constant, so a first place (1 / 1) outweighs everything. Give 1 / (constant + rank).")
def without_the_constant(rankings, constant):
    return _most_first(_points(rankings, lambda rank: 1 / rank))


@fuse.mistake("You have 60 in your code. Use the argument constant: it is not 60 in every case.")
def always_sixty(rankings, constant):
    return fuse.solution(rankings, 60)


@fuse.mistake("1 / constant + rank is (1 / constant) + rank. Brackets: 1 / (constant + rank).")
def brackets_forgotten(rankings, constant):
    return _most_first(_points(rankings, lambda rank: 1 / constant + rank))


@fuse.mistake("Your first place has rank 0. Ranks begin at 1: enumerate(ranking, 1).")
def ranks_from_zero(rankings, constant):
    return _most_first(_points(rankings, lambda rank: 1 / (constant + rank - 1)))


@fuse.mistake("That is the order of the summed ranks. A passage that one list lacks has a small sum and lands on top, as if that were good. Add up 1 / (constant + rank), and let the largest sum win.")
def smallest_sum_of_ranks(rankings, constant):
    return _most_first(_points(rankings, lambda rank: -rank))


@fuse.mistake("The fewest points come first in your list. Best first is wanted: sort by -points[p].")
def fewest_points_first(rankings, constant):
    points = _points(rankings, lambda rank: 1 / (constant + rank))
    return sorted(points, key=lambda p: (points[p], p))


@fuse.mistake("You kept only what all searches found. A passage of one list counts too, with the points of that list alone.")
def only_what_all_found(rankings, constant):
    order = _most_first(_points(rankings, lambda rank: 1 / (constant + rank)))
    return [p for p in order if all(p in ranking for ranking in rankings)]


# ---------------------------------------------------------------- 09.4


def two_stages() -> list[Case]:
    """(first, second, k): cosines and the logits of a cross-encoder, a row a query; no two numbers of a row are equal."""
    draw = np.random.default_rng(94)

    def cosines(*shape):
        return draw.uniform(-0.1, 0.9, shape)

    def logits(*shape):
        return draw.uniform(-9, 4, shape)

    return [
        Case("one query, the first three of five", np.array([[0.1, 0.8, 0.3, 0.9, 0.6]]), np.array([[5.0, 2.0, 7.0, -4.0, -1.0]]), 3),
        Case("three queries, the first four of seven", cosines(3, 7), logits(3, 7), 4),
        Case("all logits are negative", cosines(2, 6), logits(2, 6) - 5, 3),
        Case("only one candidate: nothing changes", cosines(2, 4), logits(2, 4), 1),
        Case("every passage is a candidate", cosines(2, 5), logits(2, 5), 5),
    ]


@exercise(
    "09.4",
    "Retrieve, then re-rank",
    "hard",
    cases=two_stages,
    hints=[
        "Two sorts, one after the other. The first one orders all passages by the first scores. The second one touches only the first k of that order.",
        "order = np.argsort(-first, axis=1) is (Q, N); head = order[:, :k] and tail = order[:, k:] are passages. np.take_along_axis(second, head, axis=1) is (Q, k): the logits of the candidates, in the order of head.",
        "Sort these logits: inside = np.argsort(-np.take_along_axis(second, head, axis=1), axis=1). Those are places within head, 0 to k - 1. "
        "np.take_along_axis(head, inside, axis=1) turns them into passages again. Join that with tail: np.concatenate([..., tail], axis=1).",
    ],
    why="A cross-encoder is too slow to read everything, so it orders a few candidates. Its logits and the cosines have different scales: they order separate parts of the list and never meet in one sort.",
)
def rerank(first, second, k):
    order = np.argsort(-first, axis=1)  # (Q, N): all passages, in the order of the first search
    head, tail = order[:, :k], order[:, k:]  # (Q, k) candidates, (Q, N - k) the rest
    logits = np.take_along_axis(second, head, axis=1)  # (Q, k): what the cross-encoder says of each candidate
    inside = np.argsort(-logits, axis=1)  # (Q, k): places within head, 0 to k - 1
    head = np.take_along_axis(head, inside, axis=1)  # (Q, k): passages again, best logit first
    return np.concatenate([head, tail], axis=1)  # (Q, N): the rest keeps its old order


def _order_and_inside(first, second, k):
    order = np.argsort(-first, axis=1)
    return order, np.argsort(-np.take_along_axis(second, order[:, :k], axis=1), axis=1)


@rerank.mistake(
    "You put logits and cosines into one array and sorted it. A logit of -2 may be the best of its kind, and still every cosine of the rest beats it. Sort the k candidates among themselves, then append the rest."
)
def both_scales_in_one_sort(first, second, k):
    head = np.argsort(-first, axis=1)[:, :k]
    mixed = first.copy()
    np.put_along_axis(mixed, head, np.take_along_axis(second, head, axis=1), axis=1)
    return np.argsort(-mixed, axis=1)


@rerank.mistake("The rest is gone. Append the passages after the first k, in the order of the first search: the result is (Q, N).")
def the_rest_dropped(first, second, k):
    order, inside = _order_and_inside(first, second, k)
    return np.take_along_axis(order[:, :k], inside, axis=1)


@rerank.mistake("You sorted everything by the second score. A cross-encoder reads only the first k of the first search; the others must stay behind them, whatever their second score is.")
def everything_re_ranked(first, second, k):
    return np.argsort(-second, axis=1)


@rerank.mistake("argsort on the k logits gives places within the candidates, 0 to k - 1. Turn them into passages again: np.take_along_axis(head, places, axis=1).")
def places_taken_for_passages(first, second, k):
    order, inside = _order_and_inside(first, second, k)
    return np.concatenate([inside, order[:, k:]], axis=1)


@rerank.mistake("second[:, :k] holds the logits of the passages 0 to k - 1. You need those of the candidates: np.take_along_axis(second, head, axis=1).")
def logits_of_other_passages(first, second, k):
    order = np.argsort(-first, axis=1)
    inside = np.argsort(-second[:, :k], axis=1)
    return np.concatenate([np.take_along_axis(order[:, :k], inside, axis=1), order[:, k:]], axis=1)
