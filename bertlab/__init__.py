"""bertlab: learn how BERT turns tokens into meaning, one notebook at a time.

`import bertlab as bl` loads neither torch nor transformers; every name below arrives when it is first used.
`bl.BERT` and `bl.SBERT` are local folders that any from_pretrained takes.
"""

from importlib import import_module

from .collector import paused

__version__ = "0.1.0"

_HOME = {
    "checkpoints": ["CheckpointError", "parts"],
    "tokens": ["Encoded", "Tokens", "encode", "inspect_tokens", "word_vectors"],
    "attention": ["attention_weights"],
    "pooling": ["cosine", "pool", "pooling_modes", "register_pooler"],
    "mlm": ["Masked", "Prediction", "mask_tokens", "predict_masked"],
    "nsp": ["NextSentence", "predict_next", "predict_next_many"],
    "pretraining": ["PairOptions", "PretrainOptions", "TextCache", "pretrain"],
    "toy_world": [],
    "classification": ["SentenceClassifier", "accuracy", "accuracy_by_kind", "bootstrap_gap", "classify"],
    "token_tasks": ["answer_questions", "entities", "predict_tags"],
    "sbert": ["anisotropy", "evaluate_similarity", "sentence_vectors", "spearman_interval", "stream_vectors", "train_siamese"],
    "search": ["Hit", "SearchResult", "bm25", "evaluate_search", "find"],
    "guide": ["Recommendation", "guide_table", "recommend"],
    "quiz": ["check_answer", "quiz_html", "quiz_parts", "quiz_questions"],
    "exercises": ["case", "check", "hint", "progress", "solution"],
    "datasets": ["documents", "next_sentence_pairs", "senses", "similarity_pairs", "word_overlap"],
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}
_MODULES = [*_HOME, "plots", "widgets"]
__all__ = ["BERT", "SBERT", *_WHERE, *_MODULES]


def __getattr__(name: str):
    if name in ("BERT", "SBERT"):
        return import_module(".checkpoints", __name__).resolve(name)
    if name in _WHERE:
        return getattr(_module(_WHERE[name]), name)
    if name in _MODULES:
        return _module(name)
    raise AttributeError(f"module 'bertlab' has no attribute {name!r}; dir(bertlab) lists what it has")


def _module(name: str):
    with paused():
        return import_module(f".{name}", __name__)


def __dir__():
    return sorted([*__all__, "__version__"])


def load_ipython_extension(ipython) -> None:
    """`%load_ext bertlab` prepares a notebook: quiet logs, no progress bars, one plot style."""
    import_module(".notebook", __name__).prepare(ipython)
