"""Makes subspaces.safetensors (own float64 equations in numpy) and galore_long.safetensors (60 steps of galore-torch).

    pip install torch==2.11.0 galore-torch==1.0 safetensors==0.8.0 numpy
    python make_subspaces.py

The first file does not depend on the signs and the order of basis vectors, because moments are carried over to the new
basis, or start from zero.
"""

import os
import warnings

import numpy as np
import torch
from galore_torch import GaLoreAdamW
from safetensors.numpy import save_file
from torch import nn

warnings.filterwarnings("ignore")
here = os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)
BETA1, BETA2, EPSILON, LEARNING_RATE, SCALE, RANK = 0.9, 0.999, 1e-6, 0.01, 1.8, 3


def gradients(shape, steps, generator):
    """One direction that stays plus noise."""
    base = generator.standard_normal(shape)
    return [(0.1 * (base + generator.standard_normal(shape))).astype(np.float32) for _ in range(steps)]


def sides(shape, proj_type):
    tall = shape[0] >= shape[1]
    return {"std": (not tall, tall), "reverse_std": (tall, not tall), "full": (True, True)}[proj_type]


class Basis:
    """left [rows, r] and right [cols, r], either may be None."""

    def __init__(self, left, right):
        self.left, self.right = left, right

    def project(self, x):
        x = x if self.left is None else self.left.T @ x
        return x if self.right is None else x @ self.right

    def back(self, x):
        x = x if self.left is None else self.left @ x
        return x if self.right is None else x @ self.right.T

    def change_from(self, old):
        """Applies C, or its elementwise square."""
        left = None if self.left is None else self.left.T @ old.left
        right = None if self.right is None else self.right.T @ old.right

        def apply(x, power):
            x = x if left is None else left**power @ x
            return x if right is None else x @ (right**power).T

        return apply


def by_svd(gradient, has_left, has_right):
    left, _, right = np.linalg.svd(gradient, full_matrices=False)
    return Basis(left[:, :RANK] if has_left else None, right[:RANK].T if has_right else None)


def by_power(estimate, old):
    left = None if old.left is None else np.linalg.qr(estimate @ (estimate.T @ old.left))[0]
    right = None if old.right is None else np.linalg.qr(estimate.T @ (estimate @ old.right))[0]
    return Basis(left, right)


def by_dct(gradient, has_left, has_right):
    def columns(g):
        n = g.shape[1]
        j, k = np.arange(n)[:, None], np.arange(n)[None, :]
        q = np.sqrt(2 / n) * np.cos(np.pi * (2 * j + 1) * k / (2 * n))
        q[:, 0] = np.sqrt(1 / n)
        chosen = np.argsort(-np.abs(g @ q).sum(axis=0))[:RANK]
        return q[:, chosen]

    return Basis(columns(gradient.T) if has_left else None, columns(gradient) if has_right else None)


def run(weight, grads, proj_type, subspace, moments, gap):
    """Weights after each step."""
    weight = weight.astype(np.float64)
    has_left, has_right = sides(weight.shape, proj_type)
    basis, steps, after = None, 0, []
    for index, gradient in enumerate(grads):
        gradient = gradient.astype(np.float64)
        if index % gap == 0:
            old = basis
            if subspace == "dct":
                basis = by_dct(gradient, has_left, has_right)
            elif subspace == "svd" or old is None:
                basis = by_svd(gradient, has_left, has_right)
            else:
                remembered = old.back(m / (1 - BETA1**steps)) if steps else 0 * gradient
                basis = by_power(BETA1 * remembered + (1 - BETA1) * gradient, old)
            if old is None or moments == "reset":
                m = v = np.zeros_like(basis.project(gradient))
                steps = 0
            else:
                change = basis.change_from(old)
                m_hat, v_hat = m / (1 - BETA1**steps), v / (1 - BETA2**steps)
                v = (1 - BETA2**steps) * np.abs(change(v_hat - m_hat**2, 2) + change(m_hat, 1) ** 2)
                m = change(m, 1)
        steps += 1
        low_rank = basis.project(gradient)
        m = BETA1 * m + (1 - BETA1) * low_rank
        v = BETA2 * v + (1 - BETA2) * low_rank**2
        step_size = LEARNING_RATE * np.sqrt(1 - BETA2**steps) / (1 - BETA1**steps)
        weight = weight - step_size * SCALE * basis.back(m / (np.sqrt(v) + EPSILON))
        after.append(weight)
    return np.stack(after)


def subspaces():
    generator = np.random.default_rng(5)
    tensors = {}
    for shape_name, shape in {"tall": (12, 7), "wide": (7, 12)}.items():
        weight = (0.02 * generator.standard_normal(shape)).astype(np.float32)
        grads = gradients(shape, 12, generator)
        tensors[f"{shape_name}.weight"] = weight
        tensors[f"{shape_name}.gradients"] = np.stack(grads)
        for proj_type in ["std", "reverse_std", "full"]:
            for subspace, moments, gap in [
                ("svd", "transport", 4), ("svd", "reset", 4), ("power", "transport", 1), ("power", "reset", 3),
                ("dct", "transport", 3),
            ]:
                after = run(weight, grads, proj_type, subspace, moments, gap)
                tensors[f"{shape_name}.{proj_type}.{subspace}.{moments}.gap{gap}"] = after[3::4].astype(np.float32)
    save_file(tensors, os.path.join(here, "subspaces.safetensors"))


def galore_long():
    """60 steps with a gap of 7, weights after every 20th. reverse_std of wide weights at full rank: see make.py."""
    generator = np.random.default_rng(6)
    tensors = {}
    for shape_name, shape in {"tall": (9, 5), "wide": (5, 9), "square": (6, 6)}.items():
        weight = (0.02 * generator.standard_normal(shape)).astype(np.float32)
        grads = gradients(shape, 60, generator)
        tensors[f"{shape_name}.weight"] = weight
        tensors[f"{shape_name}.gradients"] = np.stack(grads)
        for proj_type in ["std", "reverse_std", "right", "left", "full"]:
            for rank in [2, min(shape), 64]:
                wrong_side = proj_type == "reverse_std" and shape[0] < shape[1] and rank >= min(shape)
                parameter = nn.Parameter(torch.from_numpy(weight.copy()))
                target = dict(
                    params=[parameter], rank=rank, update_proj_gap=7, scale=0.5,
                    proj_type="right" if wrong_side else proj_type,
                )
                optimizer = GaLoreAdamW([target], lr=0.01, no_deprecation_warning=True)
                after = []
                for step, grad in enumerate(grads):
                    parameter.grad = torch.from_numpy(grad.copy())
                    optimizer.step()
                    if step % 20 == 19:
                        after.append(parameter.detach().numpy().copy())
                tensors[f"{shape_name}.{proj_type}.rank{rank}"] = np.stack(after)
    save_file(tensors, os.path.join(here, "galore_long.safetensors"))


subspaces()
galore_long()
