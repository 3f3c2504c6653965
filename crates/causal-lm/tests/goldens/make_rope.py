#!/usr/bin/env python3
"""Writes rope.json: inverse frequencies of transformers 5.17.0 for the supported kinds of rotary scaling (head size 16)."""
import json
import os
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
import torch

cases = []
for rope_parameters, seq_len in [
    ({"rope_type": "default", "rope_theta": 10000.0}, 9),
    ({"rope_type": "default", "rope_theta": 1000000.0}, 9),
    ({"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}, 9),
    ({"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}, 9),
    ({"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}, 1300),
    ({"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 128}, 9),
]:
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, max_position_embeddings=512, rope_parameters=rope_parameters)
    kind = rope_parameters["rope_type"]
    if kind == "default":
        inv_freq = 1.0 / (rope_parameters["rope_theta"] ** (torch.arange(0, 16, 2, dtype=torch.int64).float() / 16))
    else:
        inv_freq, _ = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), seq_len=seq_len)
    cases.append({"rope_parameters": rope_parameters, "seq_len": seq_len, "inv_freq": inv_freq.tolist()})
with open(os.path.join(os.path.dirname(__file__), "rope.json"), "w") as file:
    json.dump(cases, file, indent=1)
    file.write("\n")
