"""What `%load_ext bertlab` does: outputs that are the same for every learner."""

import logging
import os
import sys
import warnings

from . import memory


def prepare(ipython=None) -> None:
    """Quiet the libraries' logs and bars, keep bertlab's own warnings to one line, set the plot style, mind the memory."""
    memory.return_early()  # before anything large is loaded
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    for library in ("transformers", "sentence_transformers", "huggingface_hub", "matplotlib"):  # matplotlib tells of a new font cache
        logging.getLogger(library).setLevel(logging.ERROR)
    if "transformers" in sys.modules:  # imported already, so the environment comes too late
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
    warnings.formatwarning = lambda message, *_, **__: f"Note: {message}\n"

    import matplotlib

    matplotlib.rcParams.update(
        {
            "figure.dpi": 100,
            "figure.figsize": (7, 3.5),
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": False,
            "font.size": 10,
        }
    )
    if ipython is not None:
        matplotlib.use("agg")  # figures appear through bl.plots.show, with their alt text, and nowhere else
        ipython.register_magic_function(hub, "cell")
        stay_quiet_when_loaded_again(ipython)
        watch_the_memory(ipython)


def watch_the_memory(ipython) -> None:
    """Where a hub or a container has a limit: a cell that wants more raises an error, and a sentence below it says what to do."""
    if memory.limit() is None:
        return
    for event, before in (("pre_run_cell", memory.guard), ("post_run_cell", explain_a_lack)):
        if before not in ipython.events.callbacks[event]:
            ipython.events.register(event, before)
    memory.guard()


def explain_a_lack(result) -> None:
    """After a cell that failed for want of memory: what that means and what to do, below its traceback."""
    if memory.is_lack(result.error_in_exec):
        memory.unguard()
        print(memory.sentence(), file=sys.stderr)
    memory.guard()


def stay_quiet_when_loaded_again(ipython) -> None:
    """Let a second Run All in the same kernel load the extension again: IPython would print that it is loaded already."""

    def forget(result=None) -> None:
        ipython.extension_manager.loaded.discard("bertlab")
        ipython.events.unregister("post_run_cell", forget)

    ipython.events.register("post_run_cell", forget)


def hub(line: str, cell: str) -> None:
    """`%%hub` above a cell that downloads from the Hugging Face Hub: Run All passes over it, with or without a network."""
    print("Not run: this cell downloads from the Hugging Face Hub. To run it, delete its first line, %%hub.")
