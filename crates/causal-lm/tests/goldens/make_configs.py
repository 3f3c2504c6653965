#!/usr/bin/env python3
"""Writes configs.json: config.json files, and the model that transformers 5.17.0 (torch 2.11.0) makes of each.

A case is a family, what its file changes in or leaves out of a small one, and what is read off the model that was
built from it, or "refused" if transformers raises an error before or in the first forward.
"""
import json
import os
import tempfile
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

transformers.logging.set_verbosity_error()
HERE = os.path.dirname(os.path.abspath(__file__))
BASE = dict(vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64)
ABSENT = "absent"
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LINEAR = {"rope_type": "linear", "factor": 2.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}

everywhere = [{}]
# Absent and null, for every field that shapes the model.
for name in [*BASE, "head_dim", "hidden_act", "initializer_range", "rms_norm_eps", "tie_word_embeddings", "rope_parameters",
             "rope_scaling", "rope_theta", "attention_dropout", "attention_bias", "mlp_bias", "sliding_window",
             "use_sliding_window", "max_window_layers", "layer_types", "use_cache", "dtype", "torch_dtype", "pretraining_tp",
             "bos_token_id", "eos_token_id", "pad_token_id"]:
    everywhere.append({name: None})
    if name in BASE:
        everywhere.append({name: ABSENT})
everywhere += [
    {"head_dim": 16}, {"rms_norm_eps": 1e-5}, {"tie_word_embeddings": True}, {"hidden_act": "swish"}, {"hidden_act": "gelu"},
    {"attention_bias": True}, {"mlp_bias": True}, {"pretraining_tp": 2}, {"attention_dropout": 0}, {"attention_dropout": 0.1},
    {"is_causal": False}, {"is_causal": True}, {"eos_token_id": [1, 2]}, {"eos_token_id": "</s>"}, {"vocab_size": "40"},
    {"vocab_size": 40.0}, {"rms_norm_eps": "1e-6"}, {"rms_norm_eps": 1}, {"tie_word_embeddings": "yes"}, {"use_cache": False},
    # Windows.
    {"sliding_window": 5}, {"sliding_window": 64}, {"sliding_window": 4096}, {"use_sliding_window": True},
    {"use_sliding_window": True, "sliding_window": 5}, {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0},
    {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2},
    {"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0},
    {"use_sliding_window": True, "max_window_layers": 0},
    {"use_sliding_window": True, "sliding_window": 5, "layer_types": ["full_attention", "full_attention"]},
    {"use_sliding_window": True, "sliding_window": 5, "layer_types": ["full_attention", "sliding_attention"]},
    {"sliding_window": 5, "layer_types": ["full_attention", "sliding_attention"]},
    {"sliding_window": 5, "layer_types": ["full_attention", "full_attention"]},
    {"layer_types": ["full_attention", "full_attention"]}, {"layer_types": ["full_attention"]},
    {"head_dim": 8, "layer_types": ["full_attention", "full_attention"]},
    {"head_dim": 8, "layer_types": ["full_attention", "sliding_attention"]},
    {"head_dim": 8, "layer_types": ["full_attention", "sliding_attention"], "sliding_window": 5},
    {"head_dim": 8, "layer_types": ["full_attention", "sliding_attention"], "sliding_window": None},
    {"layer_types": ["full_attention", "linear_attention"]}, {"layer_types": ["full_attention", "none_such"]},
    # Two spellings.
    {"dtype": "bfloat16"}, {"torch_dtype": "bfloat16"}, {"dtype": "bfloat16", "torch_dtype": "float16"},
    {"dtype": None, "torch_dtype": "float16"}, {"dtype": "none_such"},
    {"rope_theta": 1e6}, {"rope_parameters": {"rope_theta": 1e6}}, {"rope_theta": 5e5, "rope_parameters": {"rope_theta": 1e6}},
    {"rope_theta": 5e5, "rope_parameters": {"rope_type": "default"}}, {"rope_theta": 5e5, "rope_parameters": {}},
    {"rope_parameters": {"rope_type": "default"}}, {"rope_theta": 5e5, "rope_parameters": None},
    {"rope_theta": None, "rope_parameters": {"rope_theta": 1e6}}, {"rope_parameters": {"rope_theta": None}},
    {"rope_scaling": LINEAR}, {"rope_scaling": {"type": "linear", "factor": 2.0}}, {"rope_theta": 5e5, "rope_scaling": LINEAR},
    {"rope_theta": 5e5, "rope_scaling": LINEAR | {"rope_theta": 1e6}}, {"rope_scaling": {}},
    {"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    {"rope_scaling": LINEAR | {"rope_theta": 2e6}, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    {"rope_scaling": {}, "rope_parameters": LINEAR | {"rope_theta": 1e6}},
    {"rope_scaling": None, "rope_parameters": LINEAR | {"rope_theta": 1e6}},
    {"rope_scaling": {"rope_type": "default"}, "rope_parameters": LINEAR | {"rope_theta": 1e6}},
    {"rope_scaling": LINEAR, "rope_parameters": YARN}, {"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "none_such"}},
    {"rope_scaling": YARN, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, {"rope_scaling": YARN},
    {"rope_scaling": {"rope_type": "default", "type": "linear", "factor": 2.0}},
    {"rope_scaling": {"rope_type": "linear", "type": "yarn", "factor": 2.0}},
    {"rope_scaling": {"rope_type": None, "type": "linear", "factor": 2.0}}, {"rope_scaling": {"type": None, "factor": 2.0}},
    {"rope_scaling": {"factor": 2.0}}, {"rope_scaling": {"type": "linear"}}, {"rope_scaling": {"rope_type": "none_such"}},
    {"rope_scaling": {"type": "su", "factor": 2.0}}, {"rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]}},
    {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, {"rope_scaling": {"rope_type": "proportional", "rope_theta": 1e4}},
    {"rope_scaling": {"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 16}},
    {"rope_scaling": {"type": "linear", "factor": 0.5}}, {"rope_scaling": {"type": "linear", "factor": "2"}},
    {"rope_scaling": {"type": "linear", "factor": None}}, {"rope_scaling": "linear"}, {"rope_scaling": []},
    {"rope_scaling": LLAMA3}, {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 16}},
    {"rope_scaling": LLAMA3, "original_max_position_embeddings": 16},
    {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 32}, "original_max_position_embeddings": 16},
    {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": None}},
    {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, {"partial_rotary_factor": 1.0}, {"partial_rotary_factor": 0.5},
    {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
    {"rope_parameters": LINEAR | {"partial_rotary_factor": 0.5}}, {"rope_scaling": LINEAR, "partial_rotary_factor": 0.5},
    {"rope_parameters": LINEAR | {"partial_rotary_factor": 1.0}, "partial_rotary_factor": 0.5},
    {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6}}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "factor": 4.0}},
    {"per_layer_config": {"0": {"head_dim": 16}}},
]


def facts(config):
    dtype = str(config.dtype).removeprefix("torch.") if config.dtype is not None else None  # building sets it
    # Shapes alone are enough for the large models of the defaults.
    large = config.vocab_size * config.hidden_size > 1 << 16 or config.intermediate_size > 1000 or config.num_hidden_layers > 9
    with torch.device("meta" if large else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if not large:
        model.train()(input_ids=torch.zeros(1, 3, dtype=torch.long)).logits
    layer, rotary = model.model.layers[0], model.model.rotary_emb
    attention, mlp = layer.self_attn, layer.mlp
    windows = [getattr(block.self_attn, "sliding_window", None) for block in model.model.layers]
    if type(model).__name__ == "MistralForCausalLM":
        windows = [config.sliding_window]
    windows = [window for window in windows if window is not None]
    return {
        "vocab_size": model.model.embed_tokens.weight.shape[0], "hidden_size": model.model.embed_tokens.weight.shape[1],
        "intermediate_size": mlp.gate_proj.weight.shape[0], "num_hidden_layers": len(model.model.layers),
        "num_attention_heads": attention.q_proj.weight.shape[0] // attention.head_dim,
        "num_key_value_heads": attention.k_proj.weight.shape[0] // attention.head_dim, "head_dim": attention.head_dim,
        "rms_norm_eps": layer.input_layernorm.variance_epsilon, "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": model.lm_head.weight is model.model.embed_tokens.weight,
        "qkv_bias": attention.q_proj.bias is not None, "o_bias": attention.o_proj.bias is not None,
        "mlp_bias": mlp.gate_proj.bias is not None, "initializer_range": config.initializer_range,
        "activation": type(mlp.act_fn).__name__, "dropout": attention.attention_dropout or 0,
        "dtype": dtype,
        "window": min(windows) if windows else None, "theta": config.rope_parameters["rope_theta"],
        "rope_type": rotary.rope_type, "inv_freq": None if large else rotary.inv_freq.tolist(),
        "is_causal": getattr(config, "is_causal", True),
    }


def outcome(family, changes):
    file = {"model_type": family} | BASE | changes
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w") as out:
            json.dump({key: value for key, value in file.items() if value != ABSENT}, out)
        try:
            return facts(AutoConfig.from_pretrained(folder))
        except Exception as error:
            if os.environ.get("SHOW"):
                print(family, changes, type(error).__name__, str(error).replace("\n", " ")[:160])
            return "refused"


cases = [{"family": family, "changes": changes, "model": outcome(family, changes)}
         for family in ["qwen2", "llama", "mistral"]
         for changes in [*everywhere, {name: ABSENT for name in BASE}]]
plain = {case["family"]: case["model"] for case in cases if not case["changes"]}
for case in cases:  # what is as in the family's plain model need not be repeated
    if case["changes"] and case["model"] != "refused":
        case["model"] = {key: value for key, value in case["model"].items() if value != plain[case["family"]][key]}
with open(os.path.join(HERE, "configs.json"), "w") as out:
    out.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
