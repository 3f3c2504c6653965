"""Makes updates.safetensors: Adafactor of transformers and of galore-torch, and APOLLO and Fira by their equations.

    pip install torch==2.11.0 transformers==5.17.0 galore-torch==1.0 safetensors==0.8.0
    python make_updates.py

APOLLO and Fira are written in numpy from the papers, in float64. Both take a basis of singular vectors here: that of
APOLLO is random otherwise, and every random generator is another.
"""

import os
import warnings

import numpy as np
import torch
from galore_torch import GaLoreAdafactor
from safetensors.numpy import save_file
from torch import nn
from transformers import Adafactor

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
here = os.path.dirname(os.path.abspath(__file__))
STEPS = 60
SHAPES = {"tall": (12, 7), "wide": (7, 12), "vector": (19,), "cube": (2, 3, 4)}
tensors = {}


def learning_rate(step):
    return 0.01 * min(1.0, (step + 1) / 3)


def adafactor(make, weight, grads):
    parameter = nn.Parameter(torch.from_numpy(weight.copy()))
    optimizer = make(parameter)
    after = []
    for step, grad in enumerate(grads):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        parameter.grad = torch.from_numpy(grad.copy())
        optimizer.step()
        after.append(parameter.detach().numpy().copy())
    return np.stack([after[0], after[4], after[-1]])


def scaled(kind, weight, grads, rank=3, scale=0.25, decay=0.1):
    w = weight.astype(np.float64)
    wide = w.shape[0] < w.shape[1]
    if wide:
        w, grads = w.T, [g.T for g in grads]
    p = np.linalg.svd(grads[0].astype(np.float64), full_matrices=False)[2][:rank].T
    if kind != "fira":
        p = p * np.sqrt(w.shape[1] / rank)
        scale = 128 if kind == "mini" else 1
    m = v = np.zeros((w.shape[0], rank))
    before, after = None, []
    for step, g in enumerate(grads):
        t, lr = step + 1, learning_rate(step)
        r = g.astype(np.float64) @ p
        m, v = 0.9 * m + 0.1 * r, 0.999 * v + 0.001 * r * r
        if kind == "fira":  # with galore-torch's form of AdamW
            n = np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-6)
        else:
            n = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        axis = None if kind == "mini" else 1
        norm = lambda x: np.sqrt((x * x).sum(axis, keepdims=True))
        s = norm(n) / (norm(r) + 1e-8) * (g - r @ p.T if kind == "fira" else g)
        size = np.sqrt((s * s).sum())
        if before is not None and size > 1.01 * before:
            s *= 1.01 * before / size
            size = 1.01 * before
        before = size
        w = w - lr * (scale * (n @ p.T + s) if kind == "fira" else np.sqrt(scale) * s)
        w = w * (1 - lr * decay)
        after.append(w.T if wide else w)
    return np.stack([after[0], after[4], after[-1]]).astype(np.float32)


rng = np.random.default_rng(3)
for name, shape in SHAPES.items():
    weight = (0.02 * rng.standard_normal(shape)).astype(np.float32)
    base = rng.standard_normal(shape)
    grads = [(0.1 * (base + rng.standard_normal(shape))).astype(np.float32) for _ in range(STEPS)]
    tensors[f"{name}.weight"], tensors[f"{name}.gradients"] = weight, np.stack(grads)
    fixed = dict(lr=0.0, scale_parameter=False, relative_step=False)
    for decay in (0.0, 0.1):
        tensors[f"{name}.adafactor.{decay}"] = adafactor(
            lambda p: Adafactor([p], weight_decay=decay, **fixed), weight, grads
        )
    if len(shape) == 2:
        target = dict(rank=3, update_proj_gap=25, scale=1.8, proj_type="std")
        tensors[f"{name}.galore_adafactor"] = adafactor(
            lambda p: GaLoreAdafactor([dict(params=[p], **target)], weight_decay=0.1, **fixed), weight, grads
        )
        for kind in ("apollo", "mini", "fira"):
            tensors[f"{name}.{kind}"] = scaled(kind, weight, grads, rank=1 if kind == "mini" else 3)
save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, os.path.join(here, "updates.safetensors"))
