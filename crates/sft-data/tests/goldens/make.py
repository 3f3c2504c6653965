"""Writes the golden files in this folder: what Hugging Face's libraries make of the same rows, files and seeds.

    pip install torch==2.11.0 transformers==5.17.0 trl==1.16.0 datasets==5.2.0 tokenizers numpy
    python make.py

Everything is derived from the texts below, so a second run writes the same bytes.
"""

import json
import os
import random
import shutil
import tempfile
import unicodedata
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_CACHE", tempfile.mkdtemp())
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import datasets
import numpy as np
import tokenizers
import torch
import transformers
import trl
from datasets import Dataset, load_dataset
from datasets.data_files import DataFilesPatternsDict, get_data_patterns
from datasets.load import infer_module_for_data_files
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import SFTConfig, SFTTrainer, pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

HERE = Path(__file__).parent

CORPUS = [
    "The harbour lights came on one after another, and the fishermen walked home along the wet stones.",
    "A tokenizer turns text into numbers; a model turns numbers into other numbers; we turn those into text again.",
    "春天来了，河边的柳树发了芽，孩子们在草地上放风筝。",
    "今天的天气很好，我们一起去山上看日出吧。",
    "It's 42 degrees, isn't it? They'll say we've been here since 1987.",
    "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))\n",
    "Ünïcode, naïve café, and 🙂🚀 emoji live in the same sentence.",
    "You are a helpful assistant. What is the capital of France? The capital of France is Paris.",
    "user assistant system tool",
]

# A template of our own, similar to Qwen's: a default system prompt, tools, and no reasoning in earlier turns.
CHATML = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "system" and loop.first %}
        {%- continue %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

TEMPLATES = {
    "chatml": CHATML,
    "generation": """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}
            {{- message.content + '<|im_end|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- message.content + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
""",
    "llama": """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{%- if system is not none and system != "" %}<|system|>{{ system }}{{ eos_token }}{% endif %}
{% for message in messages if message.role != 'ipython' %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
    {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
<|{{ message.role }}|>
{{ message['content'] | trim }}{{ eos_token }}
{% endfor %}
{% if add_generation_prompt %}<|assistant|>
{% endif %}""",
    "reasoning": """\
{%- set ns = namespace(last=-1, count=0) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.last < 0 and message.role == "user" and message.content is string and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- macro turn(role, text, tail='') -%}
[{{ role | upper }}] {{ text }}{{ tail }}
{%- endmacro %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if content is not string and content is iterable and content is not mapping %}
        {%- set parts = namespace(text='') %}
        {%- for item in content %}
            {%- if 'text' in item %}{% set parts.text = parts.text ~ item.text %}{% endif %}
        {%- endfor %}
        {%- set content = parts.text %}
    {%- endif %}
    {%- set reasoning = '' %}
    {%- if message.role == 'assistant' and '</think>' in content %}
        {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if loop.index0 > ns.last and reasoning %}
        {{- turn(message.role, '(' ~ reasoning.strip() ~ ') ' ~ content, '\\n') }}
    {%- else %}
        {{- turn(message.role, content, tail='\\n') }}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- call.function.name ~ ' ' ~ (call.function.arguments | tojson) ~ ' ' ~ call.function.arguments.items() | list | length ~ '\\n' }}
    {%- endfor %}
    {%- set ns.count = ns.count + 1 %}
    {%- if ns.count >= 8 %}{% break %}{% endif %}
{%- endfor %}
{{- messages | map(attribute='role') | unique | join(',') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{%- if enable_thinking is defined and enable_thinking is false %} off{% endif %}
""",
    "python": """\
{{ none }}|{{ true }}|{{ 1.0 }}|{{ [1, 'a', none, true] }}|{{ {'k': 'v', 'n': 1} }}|{{ missing }}|{{ messages[0].missing }}|
{{ {'b': 1, 'a': [1, 2, {'x': 'é'}], 'c': {}, 'd': []} | tojson(indent=2) }}
{{ {'b': 1, 'a': '<&>'} | tojson(sort_keys=true, separators=(',', ':')) }}
{{ 'a,b,c'.split(',') }} {{ 'x'.join(['1', '2']) }} {{ 'Abc'.lower().title() }} {{ '-' * 3 }} {{ 'abc'[::-1] }} {{ 'abc'[-1] }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 3 }}
{{ 'a' in 'abc' }} {{ 'role' in messages[0] }} {{ messages[0].get('nope', 'default') }} {{ messages[0].keys() | list }} {{ '%s-%d' | format('a', 3) }} {{ "it's" }} {{ ["it's", 'q"'] }}
{{ tools is iterable }} {{ missing is iterable }} {{ 'abc' is iterable }} {{ {} is iterable }} {{ 1 is iterable }} {{ tools is none }} {{ missing is none }}
{% set ns = namespace(x=1) %}
{% for m in messages %}
  {%- generation %}{% set ns.x = ns.x + 1 %}{{ m.role }}{% endgeneration %}
{% endfor %}
{{ ns.x }}
""",
}

CHATS = {
    "simple": [{"role": "user", "content": "What is the capital of France?"}, {"role": "assistant", "content": "Paris."}],
    "system": [
        {"role": "system", "content": "  Be brief.  "},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello! 🙂\n"},
        {"role": "user", "content": "今天天气怎么样？"},
        {"role": "assistant", "content": "很好。"},
    ],
    "thinking": [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "<think>\nEasy.\n</think>\n\n2"},
        {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "image"}, {"type": "text", "text": "2+2?"}]},
        {"role": "assistant", "content": "<think>\nDouble.\n</think>\n\n4", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 2, "b": "é"}}}]},
    ],
    "open": [{"role": "user", "content": "Say something <|im_end|> odd"}],
    "bad_order": [{"role": "assistant", "content": "I go first."}],
}

TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds <two> numbers & more", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}}]

TEXTS = [
    "The harbour lights came on one after another.",
    "今天的天气很好，我们一起去山上看日出吧。",
    "Already closed.<|im_end|>",
    "EOS in the middle<|im_end|> and on it goes",
    "  leading and trailing spaces  \n\n",
    unicodedata.normalize("NFD", "naïve café Ünïcode") + " 🙂🚀 \u0000 \u200d",
    "a",
    "x" * 300,
    "<|im_start|>user\nnot a chat<|im_end|>\n",
    "word " * 60,
]

FILE_SETS = [
    ["train.jsonl", "test.jsonl"],
    ["train.jsonl", "validation.jsonl", "README.md"],
    ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"],
    ["data/train_sft-00000-of-00001.parquet", "data/eval-00000-of-00001-abc123.parquet", "other/train.jsonl"],
    ["train/a.csv", "train/b.csv", "dev/a.csv"],
    ["my-train-set.json", "my_dev.json"],
    ["corpus.txt"],
    ["a.jsonl", "b.jsonl", "notes.txt"],
    ["training.csv", "testing.csv", "evaluation.csv"],
    ["train.csv", "train.jsonl", "train.parquet"],
    ["data/en/train.jsonl", "data/fr/train.jsonl", "data/fr/test.jsonl"],
    ["train10.jsonl", "train2.jsonl", "val0.jsonl"],
    ["trainer.jsonl", "latest.jsonl"],
    [".hidden/train.jsonl", "__MACOSX/train.jsonl", "real/test.jsonl"],
    ["data/train.jsonl.gz", "data/valid.jsonl.gz"],
    ["train/x.jsonl", "held/test.jsonl"],
    ["config.json", "dataset_info.json", "rows.json"],
    ["split=train/part-0.parquet", "2024 test 1.parquet"],
    ["Train.jsonl", "TEST.jsonl"],
]


def write(name, value):
    """One case a line."""
    dumps = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, list):
        text = "[\n" + ",\n".join(map(dumps, value)) + "\n]\n"
    else:
        text = json.dumps(value, ensure_ascii=False, indent=1) + "\n" if name == "versions.json" else dumps(value) + "\n"
    (HERE / name).write_text(text, encoding="utf-8")


def make_tokenizers():
    shutil.rmtree(HERE / "tokenizers", ignore_errors=True)
    pattern = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    # A tokenizer that is saved after use may have these. A reader must ignore them.
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8, pad_token="<|endoftext|>", pad_id=tokenizer.token_to_id("<|endoftext|>"))
    folder = HERE / "tokenizers" / "qwen"
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "bos_token": None, "model_max_length": 32768, "chat_template": CHATML, "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(t)): {"content": t, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
            for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
        },
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")

    # The post-processor adds BOS, special_tokens_map.json names the special tokens, and EOS is an ordinary entry of the vocabulary.
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    bytes_alphabet = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=480, special_tokens=["<unk>", "<s>", "</s>", *bytes_alphabet], show_progress=False)
    tokenizer.train_from_iterator([text for text in CORPUS if text.isascii()], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    folder = HERE / "tokenizers" / "llama"
    folder.mkdir(parents=True)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in ("<unk>", "<s>")]
    (folder / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, "add_eos_token": True}, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps({"bos_token": {"content": "<s>", "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}, "eos_token": "</s>", "unk_token": "<unk>"}, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(TEMPLATES["llama"])


def tiny_model(tokenizer):
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1))


def prepared(tokenizer_name, rows, template=None, **config):
    """What the trainer trains on, after all its preparation."""
    tokenizer = AutoTokenizer.from_pretrained(HERE / "tokenizers" / tokenizer_name)
    if template is not None:
        tokenizer.chat_template = template
    with tempfile.TemporaryDirectory() as folder:
        args = SFTConfig(output_dir=folder, report_to="none", use_cpu=True, bf16=False, **config)
        trainer = SFTTrainer(model=tiny_model(tokenizer), args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        return [{key: row[key] for key in ("input_ids", "labels", "seq_lengths") if key in row} for row in trainer.train_dataset]


def make_prepare():
    messages = [{"messages": chat} for name, chat in CHATS.items() if name in ("simple", "system", "open")]
    assistant = [{"messages": CHATS[name]} for name in ("simple", "system")]
    completions = [
        {"prompt": "What is the capital of France? ", "completion": "The capital of France is Paris."},
        {"prompt": "def add(a, b):\n    ret", "completion": "urn a + b\n<|im_end|>"},
        {"prompt": "今天", "completion": "的天气很好"},
    ]
    chat_completions = [{"prompt": chat[:-1], "completion": chat[-1:]} for chat in (CHATS["simple"], CHATS["system"])]
    texts = [{"text": text} for text in TEXTS]
    llama = [{"text": text.replace("<|im_end|>", "</s>")} for text in TEXTS]
    cases = [
        ("qwen", texts, None, {"max_length": 1024}),
        ("qwen", texts, None, {"max_length": 16}),
        ("qwen", texts, None, {"max_length": None}),
        ("llama", llama, None, {"max_length": 32}),
        ("qwen", messages, None, {"max_length": 1024}),
        ("qwen", messages, None, {"max_length": 24}),
        ("llama", [{"messages": CHATS["simple"]}, {"messages": CHATS["system"]}], None, {"max_length": 1024}),
        ("qwen", assistant, "generation", {"max_length": 1024, "assistant_only_loss": True}),
        ("qwen", completions, None, {"max_length": 1024}),
        ("qwen", completions, None, {"max_length": 12}),
        ("qwen", completions, None, {"max_length": 1024, "completion_only_loss": False}),
        ("qwen", chat_completions, None, {"max_length": 1024}),
        ("qwen", chat_completions, "generation", {"max_length": 1024, "assistant_only_loss": True}),
        ("qwen", texts, None, {"max_length": 40, "packing": True, "packing_strategy": "bfd"}),
        ("qwen", texts, None, {"max_length": 40, "packing": True, "packing_strategy": "bfd_split"}),
        ("qwen", texts, None, {"max_length": 40, "packing": True, "packing_strategy": "wrapped"}),
        ("qwen", completions, None, {"max_length": 24, "packing": True, "packing_strategy": "bfd"}),
    ]
    write("prepare.json", [
        {"tokenizer": name, "template": template, "config": config, "rows": rows,
         "examples": prepared(name, rows, TEMPLATES.get(template), **config)}
        for name, rows, template, config in cases
    ])


def make_templates():
    cases = []
    for tokenizer_name, template_name in (("qwen", "chatml"), ("qwen", "generation"), ("llama", "llama"), ("qwen", "reasoning"), ("qwen", "python")):
        tokenizer = AutoTokenizer.from_pretrained(HERE / "tokenizers" / tokenizer_name)
        tokenizer.chat_template = TEMPLATES[template_name]
        for chat_name, chat in CHATS.items():
            for prompt in (False, True):
                for tools in (None, TOOLS) if template_name == "chatml" else (None,):
                    case = {"tokenizer": tokenizer_name, "template": template_name, "messages": chat, "add_generation_prompt": prompt, "tools": tools}
                    try:
                        case["text"] = tokenizer.apply_chat_template(chat, tools=tools, tokenize=False, add_generation_prompt=prompt)
                    except Exception as error:
                        case["error"] = str(error)
                    cases.append(case)
    write("templates.json", {"sources": TEMPLATES, "cases": cases})


def make_orders():
    permutation = lambda n, seed: torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    small = [{"rows": n, "seed": seed, "order": permutation(n, seed)} for n in (1, 2, 3, 10, 1000) for seed in (0, 42, 43, 2**32 + 42, 2**63)]
    large = []
    for n in (100_000, 1_000_003):
        # The checksum is weighted, so it depends on the order. The modulus is a prime below 2**31.
        order = permutation(n, 42)
        large.append({"rows": n, "seed": 42, "checksum": sum(i * (k + 1) for k, i in enumerate(order)) % 2147483647})
    held_out = []
    for n, size, seed in ((10, 0.1, 42), (10, 0.3, 0), (7, 2, 1), (1000, 0.05, 42), (3, 0.5, 2**40 + 7)):
        split = Dataset.from_dict({"i": list(range(n))}).train_test_split(test_size=size, seed=seed)
        held_out.append({"rows": n, "test_size": size, "seed": seed, "train": split["train"]["i"][:], "test": split["test"]["i"][:]})
    permutations = [{"rows": n, "seed": seed, "order": np.random.default_rng(seed).permutation(n).tolist()} for n in (1, 2, 257) for seed in (0, 42, 2**64 - 1)]
    write("orders.json", {"small": small, "large": large, "held_out": held_out, "permutations": permutations})


def make_packing():
    rng = random.Random(7)
    cases = []
    for num_rows, limit in ((1, 4), (12, 10), (200, 16), (2345, 32)):
        rows = [[rng.randrange(1000) for _ in range(rng.randrange(1, limit * 2))] for _ in range(num_rows)]
        if num_rows > 500:
            # A test can compute these ids from the lengths.
            rows = [[row * 1000 + i for i in range(1 + len(ids))] for row, ids in enumerate(rows)]
        for strategy in ("bfd", "bfd_split", "wrapped"):
            packed = pack_dataset(Dataset.from_dict({"input_ids": rows}), limit, strategy)
            ids = [list(row) for row in packed["input_ids"]]
            lengths = [list(row) for row in packed["seq_lengths"]] if "seq_lengths" in packed.column_names else None
            if num_rows > 500:
                # Too long to store, so only the shape and a checksum of all ids in order are kept.
                flat = [i for row in ids for i in row]
                checksum = sum(i * (k + 1) for k, i in enumerate(flat)) % 2147483647
                cases.append({"seed_rows": num_rows, "limit": limit, "strategy": strategy, "row_lengths": [len(r) for r in rows], "num_examples": len(ids), "checksum": checksum})
            else:
                cases.append({"limit": limit, "strategy": strategy, "rows": rows, "input_ids": ids, "seq_lengths": lengths})
    write("packing.json", cases)


def make_collate():
    examples = [
        {"input_ids": [1, 2, 3], "labels": [-100, 2, 3]},
        {"input_ids": [4, 5]},
        {"input_ids": [6, 7, 8, 9, 10], "labels": [6, 7, -100, 9, 10]},
    ]
    cases = []
    for multiple in (None, 4):
        batch = DataCollatorForLanguageModeling(pad_token_id=0, pad_to_multiple_of=multiple)(examples)
        cases.append({"examples": examples, "pad_to_multiple_of": multiple, "input_ids": batch["input_ids"].tolist(), "labels": batch["labels"].tolist()})
    write("collate.json", cases)


def make_file_sets():
    cases = []
    for names in FILE_SETS:
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("x")
            patterns = get_data_patterns(folder)
            files = DataFilesPatternsDict.from_patterns(patterns).resolve(folder)
            module, _ = infer_module_for_data_files(files)
            kept = files.filter(extensions={"parquet": [".parquet"], "json": [".json", ".jsonl"], "csv": [".csv"], "text": [".txt"]}[module])
            cases.append({"names": names, "module": module, "splits": {str(split): [os.path.relpath(f, folder) for f in fs] for split, fs in kept.items()}})
    write("file_sets.json", cases)


def make_files():
    shutil.rmtree(HERE / "files", ignore_errors=True)
    folder = HERE / "files"
    folder.mkdir()
    rows = [
        {"id": 1, "text": "plain"}, {"id": 2, "text": "quotes \" and, commas\nand a new line"},
        {"id": 3, "text": "中文 🙂"}, {"id": 4, "text": "tab\there"}, {"id": 5, "text": "  spaces  "},
    ]
    lines = "\n".join(json.dumps(row, ensure_ascii=index % 2 == 0) for index, row in enumerate(rows))
    (folder / "rows.jsonl").write_text(lines + "\n", encoding="utf-8")
    (folder / "no_newline_crlf.jsonl").write_bytes(lines.replace("\n", "\r\n").encode())
    (folder / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    (folder / "array.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
    (folder / "strings.json").write_text(json.dumps([row["text"] for row in rows]), encoding="utf-8")
    data = Dataset.from_list(rows)
    data.to_csv(str(folder / "rows.csv"))
    data.to_csv(str(folder / "rows.tsv"), sep="\t")
    (folder / "lines.txt").write_bytes("one\r\ntwo\n\n  three \rfour 中文".encode())
    chats = Dataset.from_list([{"messages": CHATS["simple"], "score": 0.5}, {"messages": CHATS["system"], "score": 1.5}])
    import pyarrow.parquet as pq

    for codec in ("snappy", "zstd", "gzip", "none", "lz4"):
        pq.write_table(data.data.table, folder / f"rows_{codec}.parquet", compression=codec)
    chats.to_parquet(str(folder / "chats.parquet"))
    module = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".txt": "text", ".parquet": "parquet"}
    cases = []
    for path in sorted(folder.iterdir()):
        extra = {"sep": "\t"} if path.suffix == ".tsv" else {}
        loaded = load_dataset(module[path.suffix], data_files=str(path), split="train", **extra)
        column = "messages" if "messages" in loaded.column_names else "text"
        cases.append({"file": path.name, "column": column, "values": list(loaded[column])})
    write("files.json", cases)


if __name__ == "__main__":
    datasets.disable_progress_bars()
    versions = {module.__name__: module.__version__ for module in (datasets, np, tokenizers, torch, transformers, trl)}
    write("versions.json", versions)
    make_tokenizers()
    make_templates()
    make_orders()
    make_packing()
    make_collate()
    make_file_sets()
    make_files()
    make_prepare()
