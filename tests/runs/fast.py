"""Training in bfloat16 where the processor multiplies it in hardware: for the scripts beside this file."""

from contextlib import contextmanager

import torch

from bertlab.pretraining import cpu_has_bfloat16


@contextmanager
def fast(encoder):
    """Within it `encoder` computes in bfloat16 if that is fast here; its weights stay float32.

    The fused attention's backward pass is slow in bfloat16, so the plain one stands in for it.
    """
    enabled, own = cpu_has_bfloat16(), encoder.config._attn_implementation
    encoder.set_attn_implementation("eager" if enabled else own)
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled, cache_enabled=False):  # a kept copy would miss the steps
        yield
    encoder.set_attn_implementation(own)
