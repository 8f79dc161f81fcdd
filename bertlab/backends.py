"""The encoder in other engines than torch: faster on a processor, for vectors that are only to be compared.

Taught in notebooks/09_semantic_search.ipynb, section 7, which also measures what eight bits cost in quality.
ONNX Runtime and onnx are not among the course's requirements.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from .checkpoint_files import CheckpointError, remembered
from .checkpoints import load_model, load_tokenizer
from .inputs import one_of

Encoder = Callable[[dict[str, torch.Tensor]], torch.Tensor]

BACKENDS = {  # name -> what it is
    "torch": "the transformers model, float32",
    "onnx": "ONNX Runtime, float32: the same vectors",
    "onnx-int8": "ONNX Runtime, weights and activations of eight bits: nearly the same vectors",
}
EXPORT = 1  # another number for files that are made in another way
SAMPLE = ["A cat sat.", "The committee of the town has met three times since then, without any result."]


def encoder(folder: str, backend: str = "torch") -> Encoder:
    """A function from a batch of `bertlab.tokens.tokenize` to the last hidden states (B, T, H), loaded once a process.

    backend  a name from BACKENDS. The first use of an ONNX one exports the checkpoint, which takes some 10 s, and keeps the file in
             ~/.bertlab/onnx (or in the folder that BERTLAB_ONNX names)
    Raises ValueError for an unknown backend or one that is not installed, CheckpointError for a checkpoint that cannot be exported.

    >>> from bertlab import BERT
    >>> from bertlab.tokens import tokenize
    >>> encoder(BERT)(tokenize(["A cat sat."], load_tokenizer(BERT))).shape[:2]
    torch.Size([1, 6])
    """
    if one_of(backend, BACKENDS, "backend") == "torch":
        return torch.inference_mode()(lambda batch: load_model(folder)(**batch).last_hidden_state)
    return _with_onnx(folder, backend, torch.get_num_threads())


@remembered
def _with_onnx(folder: str, backend: str, threads: int) -> Encoder:
    runtime = _onnxruntime(backend)
    file = exported(folder, backend)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def encode(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.from_numpy(session.run(None, {name: batch[name].numpy() for name in names})[0])

    return encode


def _onnxruntime(backend: str):
    try:
        import onnx  # noqa: F401  the export needs it
        import onnxruntime
    except ImportError as error:
        raise ValueError(f'The backend "{backend}" needs a package that is not installed ({error.name}): pip install onnx onnxruntime.') from None
    return onnxruntime


def exported(folder: str, backend: str) -> Path:
    """The ONNX file of a checkpoint, made where there is none yet: input_ids and so on (B, T) -> the last hidden states (B, T, H)."""
    _onnxruntime(backend)
    file = _home() / f"{_fingerprint(folder)}-{backend}.onnx"
    if not file.is_file():
        with tempfile.TemporaryDirectory(dir=file.parent) as aside:  # so that nobody ever reads half a file
            made = Path(aside) / "model.onnx"
            _export(folder, made)
            if backend == "onnx-int8":
                made = _quantized(made)
            os.replace(made, file)
    return file


def _home() -> Path:
    chosen = os.environ.get("BERTLAB_ONNX", "").strip()
    home = Path(chosen).expanduser() if chosen else Path.home() / ".bertlab" / "onnx"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"The exported model cannot be kept in {home} ({error.strerror}): name another folder in BERTLAB_ONNX.") from None
    return home


def _fingerprint(folder: str) -> str:
    """What decides about the exported file: configuration, weights, and by what it is made."""
    import onnx
    import onnxruntime

    digest = hashlib.sha256(f"{EXPORT} {torch.__version__} {onnx.__version__} {onnxruntime.__version__}".encode())
    for file in sorted(Path(folder).glob("*.safetensors")) + [Path(folder) / "config.json"]:
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:32]


class _Plain(torch.nn.Module):
    """The model with a mask in the shape that attention adds to its scores: tracing would freeze transformers' own choice of one."""

    def __init__(self, model: torch.nn.Module, names: list[str]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        batch = dict(zip(self.names, tensors))
        batch["attention_mask"] = (1.0 - batch["attention_mask"][:, None, None, :].to(torch.float32)) * -1e9  # (B, 1, 1, T)
        return self.model(**batch).last_hidden_state


def _export(folder: str, file: Path) -> None:
    """Write the checkpoint as ONNX and compare what both compute; CheckpointError if that is not the same."""
    import warnings

    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32, local_files_only=True, trust_remote_code=False).eval()
    batch = dict(load_tokenizer(folder)(SAMPLE, padding=True, return_tensors="pt"))
    names = list(batch)
    axes = {name: {0: "batch", 1: "tokens"} for name in (*names, "last_hidden_state")}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on tracing, which the comparison below makes safe
        try:
            torch.onnx.export(
                _Plain(model, names), tuple(batch.values()), file, input_names=names, output_names=["last_hidden_state"],
                dynamic_axes=axes, opset_version=17, dynamo=False,
            )  # fmt: skip
        except Exception as error:  # whatever an architecture makes of a mask of four axes
            raise CheckpointError(f"The checkpoint in {folder} cannot be exported to ONNX ({str(error).splitlines()[0]:.200}): use backend=\"torch\".") from None
    _compare(folder, file, names)


def _compare(folder: str, file: Path, names: list[str]) -> None:
    """The exported model against the checkpoint, on a batch of another size than the one that was traced."""
    import onnxruntime

    batch = dict(load_tokenizer(folder)(["Rain.", *SAMPLE, " ".join(SAMPLE)], padding=True, return_tensors="pt"))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: batch[name].numpy() for name in names})
    with torch.inference_mode():
        wanted = load_model(folder)(**batch).last_hidden_state
    real = batch["attention_mask"].bool()
    if not torch.allclose(torch.from_numpy(found)[real], wanted[real], atol=1e-3, rtol=1e-3):
        raise CheckpointError(f"The checkpoint in {folder} computes something else after its export to ONNX: use backend=\"torch\".")


def _quantized(file: Path) -> Path:
    import logging

    from onnxruntime.quantization import QuantType, quantize_dynamic

    small, root = file.with_name("int8.onnx"), logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends a step that does nothing for this model
    try:
        quantize_dynamic(file, small, weight_type=QuantType.QInt8, per_channel=True)
    finally:
        root.setLevel(level)
    return small
