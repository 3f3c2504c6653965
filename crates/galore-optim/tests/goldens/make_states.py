"""Makes states.safetensors: 8-bit states.

    pip install torch==2.11.0 numpy bitsandbytes==0.50.2 safetensors==0.8.0
    python make_states.py

bitsandbytes is asked for its tables and for what codes stand for. Its quantisation on a CPU is not that of its GPU
kernels, so steps come from the equations, in numpy.
"""

import os

import numpy as np
import torch
from bitsandbytes.functional import QuantState, create_dynamic_map, dequantize_blockwise
from safetensors.numpy import save_file

here = os.path.dirname(os.path.abspath(__file__))
f32 = np.float32
MAPS = {signed: create_dynamic_map(signed=signed).numpy().astype(f32) for signed in (True, False)}
STEPS, LR, DECAY = 6, 0.01, 0.1


def blocks(x, size):
    return np.pad(x, (0, -len(x) % size)).reshape(-1, size)


def safe(scale):
    return np.maximum(scale, np.finfo(f32).tiny)


class Blockwise:
    size = 256

    @staticmethod
    def encode(x, signed):
        b = blocks(x, 256)
        scale = np.abs(b).max(1, keepdims=True)
        n = b / safe(scale)
        table = MAPS[signed]
        code = np.searchsorted((table[:-1] + table[1:]) * f32(0.5), n, side="left")
        if signed:
            code -= (table[code] >= 0) & (n < 0)
        return code.astype(np.uint8), scale

    @staticmethod
    def decode(code, scale, signed):
        return MAPS[signed][code] * scale


class Compact:
    size = 32

    @staticmethod
    def encode(x, signed):
        b = blocks(x, 32)
        if signed:
            scale = np.abs(b).max(1, keepdims=True)
            n = b / safe(scale)
            return np.rint(f32(127) * (2 * n / (1 + np.abs(n)))).astype(np.int8), scale
        root = np.sqrt(b)
        scale = root.max(1, keepdims=True)
        return np.maximum(np.rint(f32(255) * (root / safe(scale))), (b > 0).astype(f32)).astype(np.uint8), scale

    @staticmethod
    def decode(code, scale, signed):
        if signed:
            y = code.astype(f32) / f32(127)
            return y / (2 - np.abs(y)) * scale
        return np.square(code.astype(f32) / f32(255) * scale)


def run(codec, weight, gradients):
    """AdamW in bitsandbytes' form: betas 0.9 and 0.999, epsilon 1e-8."""
    w = weight.copy()
    zeros = np.zeros_like(w)
    m, v = codec.encode(zeros, True), codec.encode(zeros, False)
    after = []
    for t, g in enumerate(gradients, 1):
        first = f32(0.9) * codec.decode(*m, True).reshape(-1)[: len(w)] + f32(0.1) * g
        second = f32(0.999) * codec.decode(*v, False).reshape(-1)[: len(w)] + f32(0.001) * g * g
        c1, c2 = 1 - 0.9**t, np.sqrt(1 - 0.999**t)
        w = w + f32(-LR * c2 / c1) * first / (np.sqrt(second) + f32(c2 * 1e-8))
        w = w * f32(1 - LR * DECAY)
        m, v = codec.encode(first, True), codec.encode(second, False)
        after.append(w)
    return np.stack(after), m, v


rng = np.random.default_rng(0)
tensors = {}
codes = torch.arange(256, dtype=torch.uint8).repeat(3)
absmax = torch.tensor([0.37, 12.5, 3e-7], dtype=torch.float32)
tensors["absmax"] = absmax.numpy()
for signed, name in ((True, "signed"), (False, "unsigned")):
    state = QuantState(absmax=absmax, code=torch.from_numpy(MAPS[signed]), blocksize=256, dtype=torch.float32)
    tensors[f"decoded.{name}"] = dequantize_blockwise(codes, state).numpy()

weight = (0.02 * rng.standard_normal(4100)).astype(f32)
base = rng.standard_normal(4100) * np.exp(rng.standard_normal(4100))
gradients = [(0.1 * (base + rng.standard_normal(4100))).astype(f32) for _ in range(STEPS)]
tensors["weight"], tensors["gradients"] = weight, np.stack(gradients)
for codec, name in ((Blockwise, "8bit"), (Compact, "compact")):
    after, m, v = run(codec, weight, gradients)
    tensors[f"{name}.after"] = after[[0, 1, STEPS - 1]]
    for moment, (code, scale) in (("exp_avg", m), ("exp_avg_sq", v)):
        tensors[f"{name}.{moment}"] = code.reshape(-1)[:4100].astype(f32)
        tensors[f"{name}.{moment}_scales"] = scale.reshape(-1)
save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, os.path.join(here, "states.safetensors"))
