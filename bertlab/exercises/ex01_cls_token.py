"""Exercises of notebooks/01_cls_token.ipynb."""

import torch
from transformers import BertConfig, BertModel

from .core import Case, exercise

# ---------------------------------------------------------------- 01.1


def hidden_states() -> list[Case]:
    """Hidden states of several shapes, B, T and H all different, so that no axis can be taken for another."""
    draw = torch.Generator().manual_seed(1)
    return [
        Case("two texts of four tokens", torch.randn(2, 4, 3, generator=draw)),
        Case("one text alone", torch.randn(1, 5, 4, generator=draw)),
        Case("five texts of three tokens", torch.randn(5, 3, 6, generator=draw)),
    ]


@exercise(
    "01.1",
    "The vector at [CLS]",
    "easy",
    cases=hidden_states,
    hints=[
        "[CLS] is the first token of every text. Which of the three axes of (B, T, H) counts the tokens?",
        "A colon keeps an axis whole, a number takes one entry of it and drops the axis. You want all texts, token 0, all H numbers.",
        "Axis 0 is the texts: keep it with a colon. Axis 1 is the tokens: take 0. So: return hidden[:, 0].",
    ],
    why="In (B, T, H) the tokens are the second axis. hidden[0] raises no error, but it is a whole text and not a token.",
)
def cls_vectors(hidden):
    return hidden[:, 0]  # (B, T, H) -> (B, H): of every text, token 0


@cls_vectors.mistake("hidden[0] is the first text with all its tokens. Keep all the texts with a colon, and take token 0 on the second axis.")
def first_text(hidden):
    return hidden[0]


@cls_vectors.mistake("You took the last token of each text. In BERT [CLS] comes first, so its place is 0 and not -1.")
def last_token(hidden):
    return hidden[:, -1]


@cls_vectors.mistake("You averaged all the tokens. That is mean pooling, the subject of notebook 02. Here only the vector of token 0 is wanted.")
def mean_of_all_tokens(hidden):
    return hidden.mean(1)


@cls_vectors.mistake("Right numbers, but you kept the axis of the tokens: (B, 1, H). A slice such as :1 or [0] keeps it, the plain number 0 drops it.")
def axis_kept(hidden):
    return hidden[:, :1]


@cls_vectors.mistake("You took the first number of every token. The second axis is the tokens, the third is the H numbers: put the 0 on the second.")
def first_number_of_every_token(hidden):
    return hidden[:, :, 0]


# ---------------------------------------------------------------- 01.2


def token_lists() -> list[Case]:
    """Tokens as the tokenizer gives them, for one text and for two."""
    return [
        Case("a pair of texts", "[CLS] mia lost her key [SEP] she slept next door [SEP]".split()),
        Case("a single text", "[CLS] mia lost her key . [SEP]".split()),
        Case("a pair whose first text has two sentences", "[CLS] mia was late . her key was lost . [SEP] she re ##wr ##ote it . [SEP]".split()),
        Case("a short first text", "[CLS] why ? [SEP] nobody knows . [SEP]".split()),
        Case("an empty text", "[CLS] [SEP]".split()),
    ]


@exercise(
    "01.2",
    "Segment ids from the tokens",
    "easy",
    cases=token_lists,
    hints=[
        "Go through the tokens from left to right. At which single token do the ids change from 0 to 1, and does that token still get 0?",
        "Keep a variable, segment = 0. For each token first note the segment, then look whether the token is [SEP]. That order leaves the first [SEP] with A.",
        "tokens.index('[SEP]') is the place of the first [SEP]. Up to it, and with it, all is 0: first + 1 zeros. Behind it all is 1: len(tokens) - first - 1 ones. "
        "So: first = tokens.index('[SEP]'), then return [0] * (first + 1) + [1] * (len(tokens) - first - 1).",
    ],
    why="The first [SEP] closes A and belongs to it. The ids say which of two texts a token is in, not which sentence.",
)
def segment_ids(tokens):
    first = tokens.index("[SEP]")  # the place where text A ends
    in_a = first + 1  # [CLS], text A and its [SEP]
    return [0] * in_a + [1] * (len(tokens) - in_a)  # with a single text, no ones


@segment_ids.mistake("Your ones begin at the first [SEP] itself. It closes text A, so it still gets 0. The ones begin at the token behind it.")
def first_sep_counted_to_b(tokens):
    return [int("[SEP]" in tokens[: place + 1]) for place in range(len(tokens))]


@segment_ids.mistake("You give 0 to every token. That is right for a single text. In a pair, all that stands behind the first [SEP] gets 1.")
def all_zeros(tokens):
    return [0] * len(tokens)


@segment_ids.mistake("You number the texts 1 and 2. BERT's table of segments has the rows 0 and 1: A is 0, B is 1.")
def counted_from_one(tokens):
    return [1 + ("[SEP]" in tokens[:place]) for place in range(len(tokens))]


@segment_ids.mistake("You go one further at every [SEP], before you note the number. A [SEP] still belongs to the text that it closes: note first, then go further. No number is above 1.")
def raised_before_it_is_noted(tokens):
    return [tokens[: place + 1].count("[SEP]") for place in range(len(tokens))]


@segment_ids.mistake("You change at the full stop. A text may hold several sentences, or no full stop at all. Only [SEP] ends text A.")
def split_at_the_full_stop(tokens):
    return [int("." in tokens[:place]) for place in range(len(tokens))]


@segment_ids.mistake("The last [SEP] closes text B and belongs to it, so it gets 1. Special tokens get the id of the text that they stand with.")
def zero_for_every_special_token(tokens):
    return [int("[SEP]" in tokens[:place] and token != "[SEP]") for place, token in enumerate(tokens)]


# ---------------------------------------------------------------- 01.3


def models_with_batches() -> list[Case]:
    """A tiny random BERT in eval mode with batches; its weights are large, so that the padding would be seen."""
    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, max_position_embeddings=12, initializer_range=0.8
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = BertModel(config).eval()
    padded = torch.tensor([[1, 5, 6, 7, 8, 2], [1, 9, 2, 0, 0, 0]])  # 1 is [CLS], 2 is [SEP], 0 is [PAD]
    three = torch.tensor([[1, 4, 2, 0], [1, 4, 11, 2], [1, 2, 0, 0]])
    return [
        Case("one text without padding", model, torch.tensor([[1, 5, 6, 7, 2]]), torch.ones(1, 5, dtype=torch.long)),
        Case("a long and a short text", model, padded, (padded != 0).long()),
        Case("three texts, one of them empty", model, three, (three != 0).long()),
    ]


@exercise(
    "01.3",
    "From ids to the last [CLS] vector",
    "medium",
    cases=models_with_batches,
    hints=[
        "Two steps: call the model on the batch, then take one vector of each text from the last hidden state.",
        "Call it by name: model(input_ids=..., attention_mask=...). The result has last_hidden_state of shape (B, T, H). Its [CLS] vectors are those of exercise 01.1.",
        "output = model(input_ids=input_ids, attention_mask=attention_mask), and then return output.last_hidden_state[:, 0].",
    ],
    why="The model needs the mask to know what is padding, and of its two [CLS] vectors the hidden state is last_hidden_state[:, 0].",
)
def cls_after_last_layer(model, input_ids, attention_mask):
    output = model(input_ids=input_ids, attention_mask=attention_mask)  # by name: nothing to mix up
    return output.last_hidden_state[:, 0]  # (B, T, H) -> (B, H)


@cls_after_last_layer.mistake("That is pooler_output: the [CLS] vector after one more dense layer and a tanh. Take last_hidden_state and its token 0.")
def pooler_output(model, input_ids, attention_mask):
    return model(input_ids=input_ids, attention_mask=attention_mask).pooler_output


@cls_after_last_layer.mistake("The attention mask did not reach the model. So the real tokens looked at [PAD] too, and their vectors changed. Pass attention_mask by name.")
def without_the_mask(model, input_ids, attention_mask):
    return model(input_ids=input_ids).last_hidden_state[:, 0]


@cls_after_last_layer.mistake("Those are the embeddings, hidden_states[0]. There the [CLS] vector is the same for every text. Take the last hidden state.")
def embeddings(model, input_ids, attention_mask):
    return model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True).hidden_states[0][:, 0]


@cls_after_last_layer.mistake("The mask went in as token_type_ids, so BERT took it for segments and saw no padding. Write attention_mask=attention_mask.")
def mask_taken_for_segments(model, input_ids, attention_mask):
    return model(input_ids=input_ids, token_type_ids=attention_mask).last_hidden_state[:, 0]


@cls_after_last_layer.mistake("The mask went in twice, also as token_type_ids. There BERT takes it for segments. Leave token_type_ids out: these are single texts.")
def mask_given_twice(model, input_ids, attention_mask):
    return model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=attention_mask).last_hidden_state[:, 0]


@cls_after_last_layer.mistake("You return the vectors of all tokens, (B, T, H). Take token 0 of each text: [:, 0] behind last_hidden_state.")
def every_token(model, input_ids, attention_mask):
    return model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


# ---------------------------------------------------------------- 01.4


def classifiers() -> list[Case]:
    """(hidden, W and b of the pooler, W and b of the head); the pooler's W is not symmetric."""
    draw = torch.Generator().manual_seed(4)

    def case(name: str, texts: int, tokens: int, width: int, labels: int) -> Case:
        shapes = (texts, tokens, width), (width, width), (width,), (labels, width), (labels,)
        return Case(name, *(torch.randn(*shape, generator=draw) for shape in shapes))

    return [case("three texts, two labels", 3, 5, 4, 2), case("one text, two labels", 1, 3, 6, 2), case("two texts, five labels", 2, 4, 3, 5)]


@exercise(
    "01.4",
    "The logits of a classifier by hand",
    "hard",
    cases=classifiers,
    hints=[
        "Three stations: the [CLS] hidden state, the pooler, the head. Write down the shape after each: (B, H), (B, H), (B, K).",
        "A linear layer with weight W and bias b makes x @ W.T + b of x. The pooler is such a layer with torch.tanh around it. The head is one without.",
        "cls = hidden[:, 0], then pooled = torch.tanh(cls @ pooler_weight.T + pooler_bias). The head does the same with head_weight and head_bias, on pooled and without a tanh.",
    ],
    why="Behind BERT's layers a classifier is two matrix products and a tanh. If you can write it, no library can hide which [CLS] vector it reads.",
)
def classify(hidden, pooler_weight, pooler_bias, head_weight, head_bias):
    cls = hidden[:, 0]  # (B, H): the [CLS] hidden state
    pooled = torch.tanh(cls @ pooler_weight.T + pooler_bias)  # (B, H): pooler_output
    return pooled @ head_weight.T + head_bias  # (B, K): one logit a label


@classify.mistake("The pooler's bias is missing: it belongs inside the tanh, cls @ pooler_weight.T + pooler_bias.")
def no_pooler_bias(hidden, pooler_weight, pooler_bias, head_weight, head_bias):
    return classify.solution(hidden, pooler_weight, 0 * pooler_bias, head_weight, head_bias)


@classify.mistake("You put a tanh around the head as well, so no logit can be above 1. Only the pooler has one.")
def tanh_on_the_head(hidden, pooler_weight, pooler_bias, head_weight, head_bias):
    return torch.tanh(classify.solution(hidden, pooler_weight, pooler_bias, head_weight, head_bias))


@classify.mistake("Your head reads the [CLS] hidden state. In BertForSequenceClassification the pooler lies between: first its matrix, its bias and tanh.")
def pooler_left_out(hidden, pooler_weight, pooler_bias, head_weight, head_bias):
    return hidden[:, 0] @ head_weight.T + head_bias


@classify.mistake("The tanh of the pooler is missing. It comes after the pooler's matrix and bias, and before the head.")
def tanh_left_out(hidden, pooler_weight, pooler_bias, head_weight, head_bias):
    return (hidden[:, 0] @ pooler_weight.T + pooler_bias) @ head_weight.T + head_bias


@classify.mistake("The pooler's weight is not transposed. It is square, so both ways run. PyTorch stores (out, in): multiply by pooler_weight.T.")
def pooler_weight_not_transposed(hidden, pooler_weight, pooler_bias, head_weight, head_bias):
    return torch.tanh(hidden[:, 0] @ pooler_weight + pooler_bias) @ head_weight.T + head_bias


@classify.mistake("You give the pooler the mean of all tokens. In spite of its name the pooler averages nothing: it reads token 0 alone.")
def mean_in_place_of_cls(hidden, pooler_weight, pooler_bias, head_weight, head_bias):
    return torch.tanh(hidden.mean(1) @ pooler_weight.T + pooler_bias) @ head_weight.T + head_bias


@classify.mistake("You return probabilities. The logits are wanted, the raw scores before softmax: leave the softmax out.")
def probabilities(hidden, pooler_weight, pooler_bias, head_weight, head_bias):
    pooled = torch.tanh(hidden[:, 0] @ pooler_weight.T + pooler_bias)
    return (pooled @ head_weight.T + head_bias).softmax(-1)
