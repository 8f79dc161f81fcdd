"""Panels: controls to explore BERT by hand. One module each: pure function, renderer, thin panel."""

from importlib import import_module

_PANELS = {
    "TokenInspector": "token_inspector",
    "AttentionView": "attention_view",
    "PoolingBench": "pooling_bench",
    "MaskedWord": "masked_word",
    "NextSentence": "next_sentence",
    "TrainingMonitor": "training_monitor",
    "SimilarityMap": "similarity_map",
    "TaskGuide": "task_guide",
    "Quiz": "quiz",
}
__all__ = list(_PANELS)


def __getattr__(name: str):
    if name in _PANELS:
        return getattr(import_module(f".{_PANELS[name]}", __name__), name)
    raise AttributeError(f"module 'bertlab.widgets' has no panel {name!r}; there are {', '.join(_PANELS)}")


def __dir__():
    return __all__
