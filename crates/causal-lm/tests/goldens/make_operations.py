#!/usr/bin/env python3
"""Writes operations.safetensors: what single modules and functions of transformers 5.17.0 (torch 2.11.0) compute, with
the gradients of the sum of output times dy, in float64. Norms are also there as transformers rounds them in bfloat16.

Transformers rounds to float32 inside norms, softmax and routers, whatever the type; here that is float64 too.
"""
import contextlib
import os
from unittest import mock
import torch
from safetensors.torch import save_file
from transformers import MixtralConfig, OlmoeConfig, Qwen3MoeConfig
from transformers.activations import ACT2FN
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock, load_balancing_loss_func
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm
from transformers.models.olmoe.modeling_olmoe import OlmoeSparseMoeBlock
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

golden = {}
generator = torch.Generator().manual_seed(1)


def random(*shape):
    """Values that bfloat16 has, so that both types compute from the same ones."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64).bfloat16().double()


@contextlib.contextmanager
def in_float64():
    with mock.patch.object(torch, "float32", torch.float64), mock.patch.object(torch, "float", torch.float64), \
            mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        yield


def record(name, output, dy, leaves):
    gradients = torch.autograd.grad((output * dy).sum(), list(leaves.values()))
    golden[f"{name}.output"], golden[f"{name}.dy"] = output.detach(), dy
    for (leaf, tensor), gradient in zip(leaves.items(), gradients):
        golden[f"{name}.{leaf}"], golden[f"{name}.d_{leaf}"] = tensor.detach(), gradient


def attention(name, window, cap, lengths=(7, 12, 1), heads=(4, 2), k=8, scale=0.3):
    n = sum(lengths)
    leaves = {"query": random(n, heads[0], k), "key": random(n, heads[1], k), "value": random(n, heads[1], k)}
    leaves = {key: (3 * value).requires_grad_() for key, value in leaves.items()}
    function = causal_mask_function if window is None else sliding_window_causal_mask_function(window)
    module = torch.nn.Module()
    module.num_key_value_groups, module.training = heads[0] // heads[1], False
    outputs, start = [], 0
    for length in lengths:
        q, k_, v = (leaf[start:start + length].transpose(0, 1)[None] for leaf in leaves.values())
        places = torch.arange(length)
        seen = function(0, 0, places[:, None], places[None, :])
        mask = torch.zeros(1, 1, length, length, dtype=torch.float64).masked_fill(~seen, float("-inf"))
        with in_float64():
            outputs.append(eager_attention_forward(module, q, k_, v, mask, scaling=scale, softcap=cap)[0][0])
        start += length
    record(f"attention.{name}", torch.cat(outputs), random(n, heads[0], k), leaves)


def norm(name, module, n=9, d=24):
    for index, parameter in enumerate(module.parameters()):
        parameter.data = random(d) + (1 if index == 0 else 0)
    module = module.double()
    leaves = {"x": random(n, d).requires_grad_()} | dict(module.named_parameters())
    with in_float64():
        record(f"norm.{name}", module(leaves["x"]), random(n, d), leaves)
    golden[f"norm.{name}.bfloat16"] = module.bfloat16()(leaves["x"].detach().bfloat16()).detach()


def activation(name, f=16):
    x = {"x": (2 * random(5, f)).requires_grad_()}
    record(f"activation.{name}", ACT2FN[name](x["x"]), random(5, f), x)


def mixture(name, block, config, num_experts, n=9, d=8, coefficient=0.5):
    blocks = [block(config).double() for _ in range(2)]
    x, mask, logits, outputs, leaves = random(n, d).requires_grad_(), torch.ones(1, n), [], [], {}
    mask[0, 6:8] = 0
    for layer, module in enumerate(blocks):
        module.train(False)
        for parameter_name, parameter in module.named_parameters():
            parameter.data = random(*parameter.shape)
            leaves[f"{layer}.{parameter_name}"] = parameter
        with in_float64():
            outputs.append(module(x[None])[0])
            logits.append(module.gate(x)[0])
    with in_float64():
        aux = load_balancing_loss_func(tuple(logits), num_experts, 2, mask)
    output, dy = torch.cat(outputs), random(2 * n, d)
    golden[f"mixture.{name}.mask"], golden[f"mixture.{name}.aux"] = mask[0], aux.detach()
    gradients = torch.autograd.grad((output * dy).sum() + coefficient * aux, [x, *leaves.values()])
    golden[f"mixture.{name}.output"], golden[f"mixture.{name}.dy"] = output.detach(), dy
    for (leaf, tensor), gradient in zip(({"x": x} | leaves).items(), gradients):
        golden[f"mixture.{name}.{leaf}"], golden[f"mixture.{name}.d_{leaf}"] = tensor.detach(), gradient


attention("window", 5, None)
attention("cap", None, 2.0)
attention("both", 4, 1.5)
norm("rounded", LlamaRMSNorm(24, eps=1e-5))
norm("wide", Olmo2RMSNorm(24, eps=1e-5))
norm("one_plus", Gemma3RMSNorm(24, eps=1e-5))
norm("layer", torch.nn.LayerNorm(24, eps=1e-5))
for name in ("silu", "gelu", "gelu_pytorch_tanh"):
    activation(name)
sizes = dict(hidden_size=8, num_experts_per_tok=2, num_attention_heads=2, num_key_value_heads=2)
mixture("qwen3_moe", Qwen3MoeSparseMoeBlock, Qwen3MoeConfig(**sizes, num_experts=5, moe_intermediate_size=6, norm_topk_prob=True), 5)
mixture("olmoe", OlmoeSparseMoeBlock, OlmoeConfig(**sizes, num_experts=5, intermediate_size=6, norm_topk_prob=False), 5)
mixture("mixtral", MixtralSparseMoeBlock, MixtralConfig(**sizes, num_local_experts=5, intermediate_size=6), 5)
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "operations.safetensors")
save_file({key: value.contiguous() for key, value in golden.items()}, path)
