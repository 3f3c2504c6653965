#!/usr/bin/env python3
"""Writes rope_kinds.json: what transformers 5.17.0 makes of a config.json's rotary fields, in classes that rotate whole
heads, a part of them, or layers of two types each in their way. The sizes are small so that the file is."""
import json
import os
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
import torch

SIZES = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "head_dim": 16}
LONG = {"short_factor": [1.0, 1.1, 1.5, 2.0, 3.0, 4.0, 5.5, 8.0], "long_factor": [1.0, 2.0, 4.5, 8.0, 16.0, 20.0, 32.0, 64.25]}
PARTIAL = {"short_factor": [1.0, 1.1, 1.5, 2.0, 2.5, 7.0], "long_factor": [1.0, 2.0, 4.5, 8.0, 9.0, 13.0]}
YARN = {"rope_type": "yarn", "factor": 4.0}
FILES = [
    ("llama", {"rope_scaling": YARN}),
    ("llama", {"rope_scaling": YARN | {"original_max_position_embeddings": 128}}),
    ("llama", {"rope_scaling": YARN | {"original_max_position_embeddings": 128}, "original_max_position_embeddings": 64}),
    ("llama", {"rope_scaling": YARN | {"original_max_position_embeddings": 128, "truncate": False}}),
    ("llama", {"rope_scaling": YARN | {"factor": 0.5}}),
    ("llama", {"rope_scaling": YARN | {"factor": None, "original_max_position_embeddings": 128}}),
    ("llama", {"rope_scaling": YARN | {"attention_factor": 0.75, "beta_fast": 16, "beta_slow": 2}}),
    ("llama", {"rope_scaling": YARN | {"mscale": 0.7, "mscale_all_dim": 1.0, "beta_fast": None, "beta_slow": 0}}),
    ("llama", {"rope_scaling": YARN | {"mscale": 0.7, "beta_fast": 1, "beta_slow": 1}, "rope_theta": 1e6}),
    ("qwen2", {"rope_parameters": YARN | {"rope_theta": 1e6, "original_max_position_embeddings": 256}}),
    ("llama", {"rope_scaling": {"rope_type": "longrope"} | LONG | {"original_max_position_embeddings": 128}}),
    ("llama", {"rope_scaling": {"type": "longrope", "factor": 3.0} | LONG}),
    ("llama", {"rope_scaling": {"type": "longrope", "attention_factor": 1.25} | LONG | {"original_max_position_embeddings": 32}}),
    ("phi3", {}),
    ("phi3", {"rope_scaling": {"type": "longrope"} | LONG, "original_max_position_embeddings": 128}),
    ("phi3", {"rope_scaling": {"type": "su", "original_max_position_embeddings": 32} | LONG, "original_max_position_embeddings": 128}),
    ("phi3", {"rope_scaling": {"type": "yarn"} | LONG, "original_max_position_embeddings": 128}),
    ("phi3", {"rope_scaling": {"type": "longrope"} | PARTIAL, "partial_rotary_factor": 0.75, "original_max_position_embeddings": 64}),
    ("phi3", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5, "rope_theta": 5e5}}),
    ("gemma3_text", {}),
    ("gemma3_text", {"rope_theta": 5e5, "rope_local_base_freq": 1e5}),
    ("gemma3_text", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    ("gemma3_text", {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                                         "sliding_attention": {"rope_type": "default", "rope_theta": 2e4}}}),
]


def frequencies(config, parameters, seq_len, layer_type=None):
    kind, head_dim = parameters["rope_type"], 16
    if kind == "default":
        dim = int(head_dim * parameters.get("partial_rotary_factor", 1.0))
        return 1.0 / (parameters["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.int64).float() / dim)), 1.0
    return ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), seq_len=seq_len, layer_type=layer_type)


cases = []
for model_type, changes in FILES:
    sizes = dict(SIZES)
    if model_type == "phi3":
        del sizes["head_dim"]  # the class has no such field
    file = {"model_type": model_type} | sizes | {"max_position_embeddings": 512} | changes
    path = os.path.join("/tmp", "rope-kinds", "config.json")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as out:
        json.dump(file, out)
    config = AutoConfig.from_pretrained(os.path.dirname(path))
    for seq_len in (9, 300):
        types = ["full_attention", "sliding_attention"] if model_type == "gemma3_text" else [None]
        layers = []
        for layer_type in types:
            parameters = config.rope_parameters[layer_type] if layer_type else config.rope_parameters
            inv_freq, factor = frequencies(config, parameters, seq_len, layer_type)
            layers.append({"theta": parameters["rope_theta"], "inv_freq": inv_freq.tolist(), "attention_factor": factor})
        cases.append({"model_type": model_type, "changes": changes, "seq_len": seq_len, "layers": layers})
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "rope_kinds.json"), "w") as out:
    out.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
