#!/usr/bin/env python3
"""Writes special_tokens.json: what transformers 5.17.0 and TRL 1.16.0 leave of the token ids of config.json and
generation_config.json, for tokenizers that agree with the files and for others that do not.

TRL's trainer sets the end token that `eos_token` names and the pad token; transformers' trainer then aligns all three.
Both are called here on a model without weights of interest.
"""
import json
import os
import tempfile
import types
import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.trainer_utils import align_special_tokens

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = ["bos_token_id", "eos_token_id", "pad_token_id"]
TOKENIZERS = [{"bos": 9, "eos": 7, "pad": 8}, {"bos": None, "eos": 7, "pad": 7}]
CONFIGS = [{}, {"bos_token_id": 9, "eos_token_id": 7, "pad_token_id": 8}, {"bos_token_id": 9, "eos_token_id": 8},
           {"bos_token_id": None, "eos_token_id": [8, 7]}, {"eos_token_id": None, "pad_token_id": None}]
GENERATIONS = [None, {}, {"bos_token_id": 9, "eos_token_id": 7, "pad_token_id": 8}, {"eos_token_id": 8}, {"eos_token_id": [8, 7]},
               {"eos_token_id": None, "pad_token_id": None, "do_sample": False}]


def saved(config, generation, tokenizer, eos_is_chosen):
    model_config = LlamaConfig(vocab_size=12, hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1)
    model = AutoModelForCausalLM.from_config(model_config, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        path = os.path.join(folder, "config.json")
        with open(path) as file:
            content = {key: value for key, value in json.load(file).items() if key not in NAMES}
        with open(path, "w") as file:
            json.dump(content | config, file)
        path = os.path.join(folder, "generation_config.json")
        os.remove(path)
        if generation is not None:
            with open(path, "w") as file:
                json.dump(generation, file)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    processing = types.SimpleNamespace(**{f"{name}_token_id": id for name, id in tokenizer.items()})
    if eos_is_chosen:  # as SFTTrainer does for `eos_token`
        model.config.eos_token_id = tokenizer["eos"]
        ids = model.generation_config.eos_token_id
        ids = [] if ids is None else [ids] if isinstance(ids, int) else ids
        if tokenizer["eos"] not in ids:
            model.generation_config.eos_token_id = [tokenizer["eos"], *ids]
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer["pad"]
    align_special_tokens(model, processing)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        files = [json.load(open(os.path.join(folder, name))) for name in ["config.json", "generation_config.json"]]
    return [{name: file.get(name) for name in NAMES} for file in files]


cases = []
for config in CONFIGS:
    for generation in GENERATIONS:
        for tokenizer in TOKENIZERS:
            for eos_is_chosen in [False, True]:
                after = saved(config, generation, tokenizer, eos_is_chosen)
                cases.append({"config": config, "generation_config": generation, "tokenizer": tokenizer,
                              "eos_is_chosen": eos_is_chosen, "saved": after})
with open(os.path.join(HERE, "special_tokens.json"), "w") as out:
    out.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
