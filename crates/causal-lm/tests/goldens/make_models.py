#!/usr/bin/env python3
"""Writes one folder per case: a tiny model as transformers 5.17.0 (torch 2.11.0) saves it, and golden.safetensors with
what transformers computes for it in float64: the logits of every token, the sum of losses, and the gradients of
loss / number of targets with respect to every parameter.

Rows run one by one, without padding, because the layout of a batch must not change the results.
"""
import json
import os
import shutil
import sys
import types
import torch
from safetensors.torch import save_file
from transformers import (AutoModelForCausalLM, Gemma3TextConfig, GraniteConfig, LlamaConfig, MistralConfig, Olmo2Config, Phi3Config, Qwen2Config,
                          Qwen3Config, SmolLM3Config)


def rms_norm(self, x):
    epsilon = self.variance_epsilon if hasattr(self, "variance_epsilon") else self.eps
    weight = 1.0 + self.weight if type(self).__name__.startswith("Gemma") else self.weight
    return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon)


here = os.path.dirname(os.path.abspath(__file__))
common = dict(vocab_size=40, hidden_size=24, intermediate_size=36, num_hidden_layers=2, max_position_embeddings=64,
              bos_token_id=None, eos_token_id=1, initializer_range=0.15)
cases = {
    "qwen2-tied": Qwen2Config(**common, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True, rope_theta=1e6),
    "qwen2-untied": Qwen2Config(**common, num_attention_heads=3, num_key_value_heads=3, tie_word_embeddings=False),
    "llama3": LlamaConfig(**common, num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=False, attention_bias=True,
                          mlp_bias=True, rms_norm_eps=1e-5,
                          rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                                           "high_freq_factor": 4.0, "original_max_position_embeddings": 16}),
    "llama-head-dim": LlamaConfig(**common, num_attention_heads=2, num_key_value_heads=1, head_dim=16, tie_word_embeddings=True),
    "llama-yarn": LlamaConfig(**common, num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True,
                              rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 4.0, "attention_factor": 0.9,
                                               "original_max_position_embeddings": 16}),
    # The default attention factors are large for such short lengths: they make bfloat16 inexact, in transformers too.
    # Rows of 3 tokens and more are long. In one of 1 token nothing is rotated.
    "llama-longrope": LlamaConfig(**common, num_attention_heads=3, num_key_value_heads=3, tie_word_embeddings=True,
                                  rope_parameters={"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0, 1.5, 2.0, 3.0],
                                                   "long_factor": [1.5, 4.0, 6.0, 9.5], "original_max_position_embeddings": 2, "attention_factor": 1.1}),
    # Rows of 7 and 12 tokens pass the window, one of 3 ends inside it.
    "mistral-window": MistralConfig(**common, num_attention_heads=4, num_key_value_heads=2, sliding_window=5, tie_word_embeddings=False),
    "qwen2-window": Qwen2Config(**common, num_attention_heads=4, num_key_value_heads=1, tie_word_embeddings=True, use_sliding_window=True,
                                sliding_window=4, max_window_layers=1),
    "qwen3": Qwen3Config(**common, num_attention_heads=4, num_key_value_heads=2, head_dim=8, tie_word_embeddings=True, rope_theta=1e6),
    "phi3": Phi3Config(**(common | {"hidden_size": 32}), num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False, pad_token_id=None,
                       sliding_window=6, rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.75, "rope_theta": 1e4}),
    # A layer of each type, with bases of their own; the third is the first that sees everything.
    "gemma3": Gemma3TextConfig(**(common | {"num_hidden_layers": 3}), num_attention_heads=4, num_key_value_heads=2, head_dim=8, sliding_window=4, pad_token_id=None,
                               query_pre_attn_scalar=24, layer_types=["sliding_attention", "sliding_attention", "full_attention"]),
    "smollm3": SmolLM3Config(**common, num_attention_heads=4, num_key_value_heads=2, pad_token_id=None, no_rope_layer_interval=2),
    "olmo2": Olmo2Config(**common, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False, pad_token_id=None),
    "granite": GraniteConfig(**common, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True, embedding_multiplier=6.0,
                             attention_multiplier=0.125, residual_multiplier=0.22, logits_scaling=4.0),
    "mistral": MistralConfig(**common, num_attention_heads=4, num_key_value_heads=2, sliding_window=None, tie_word_embeddings=False),
}
lengths = [7, 7, 1, 12, 3]
only = sys.argv[1:]  # names of cases; without any, all are made
for name, config in cases.items():
    if only and name not in only:
        continue
    # Gemma's model is one of which transformers computes all gradients to 0.036 in bfloat16.
    torch.manual_seed(14 if name == "gemma3" else len(name))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias") or "norm" in parameter_name:  # new ones are 0 and 1, which hide mistakes
            parameter.data += 0.3 * torch.randn_like(parameter)
    folder = os.path.join(here, name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    model = model.double()
    for module in model.modules():  # transformers rounds to float32 inside its norms, whatever the model's type
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = types.MethodType(rms_norm, module)
    ids = torch.randint(0, config.vocab_size, (sum(lengths),), generator=torch.Generator().manual_seed(7))
    targets = torch.full_like(ids, -1)
    logits, start = [], 0
    for length in lengths:
        row = ids[start:start + length]
        logits.append(model(input_ids=row[None]).logits[0])
        targets[start:start + length - 1] = row[1:]
        start += length
    targets[2] = -1  # a masked token inside a row
    logits = torch.cat(logits)
    kept = targets >= 0
    loss = torch.nn.functional.cross_entropy(logits[kept], targets[kept], reduction="sum")
    (loss / kept.sum()).backward()
    golden = {f"gradient.{name}": parameter.grad for name, parameter in model.named_parameters()}
    golden |= {"input_ids": ids, "targets": targets, "lengths": torch.tensor(lengths), "logits": logits.detach(), "loss": loss.detach()}
    save_file({key: value.contiguous() for key, value in golden.items()}, os.path.join(folder, "golden.safetensors"))
    with torch.no_grad():
        out = model.generate(ids[None, :7], max_new_tokens=8, do_sample=False, pad_token_id=0)
    with open(os.path.join(folder, "greedy.json"), "w") as file:
        json.dump(out[0, 7:].tolist(), file)
