"""Writes the golden files of formats, of what is learnt and of length: what TRL and transformers make of the same rows.

    pip install torch==2.11.0 transformers==5.17.0 trl==1.16.0 datasets==5.2.0
    python make_formats.py

It needs the folder `tokenizers`, which make.py writes.
"""

import os
import random
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_CACHE", tempfile.mkdtemp())
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from datasets import Dataset
import jinja2
from make import CHATS, HERE, TEMPLATES, TEXTS, prepared, tiny_model, write
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer
from trl.data_utils import extract_prompt


def orders_of_the_trainer(lengths, batch_size, accumulation, seed):
    """The order in which the trainer really visits the rows, in three epochs."""
    tokenizer = AutoTokenizer.from_pretrained(HERE / "tokenizers" / "qwen")
    seen = []

    class Recorder(SFTTrainer):
        def training_step(self, model, inputs, *args, **kwargs):
            seen.extend(int(row[0]) for row in inputs["input_ids"])
            return super().training_step(model, inputs, *args, **kwargs)

    with tempfile.TemporaryDirectory() as folder:
        args = SFTConfig(
            output_dir=folder, report_to="none", use_cpu=True, bf16=False, save_strategy="no", num_train_epochs=3, seed=seed,
            train_sampling_strategy="group_by_length", per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation,
        )
        # The first token of a row is its number.
        rows = Dataset.from_list([{"input_ids": [number] * length} for number, length in enumerate(lengths)])
        Recorder(model=tiny_model(tokenizer), args=args, train_dataset=rows, processing_class=tokenizer).train()
    return [seen[start:start + len(lengths)] for start in range(0, len(seen), len(lengths))]


def make_length_groups():
    rng = random.Random(5)
    cases = []
    for num_rows, batch_size, accumulation, seed in [
        (1, 1, 1, 42), (7, 8, 1, 42), (50, 4, 2, 42), (50, 4, 2, 43), (64, 4, 1, 7), (333, 1, 2, 42), (412, 2, 1, 1),
    ]:
        lengths = [rng.randint(2, 40) for _ in range(num_rows)]
        orders = orders_of_the_trainer(lengths, batch_size, accumulation, seed)
        cases.append({"lengths": lengths, "batch_size": batch_size * accumulation, "seed": seed, "orders": orders})
    write("length_groups.json", cases)


# Chats are written as by TEMPLATES["generation"], with other parts marked for the loss. TRL trains on what is marked.
def marked(condition="true", end="inside", content="message.content"):
    """A template that marks the turns for which the condition holds, with or without their end token."""
    said = "{{ " + content + " }}"
    end_inside, end_outside = ("<|im_end|>", "") if end == "inside" else ("", "<|im_end|>")
    return (
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
        "{% if message.role == 'assistant' and (" + condition + ") %}"
        "{% if '</think>' in message.content and content_is_split %}{{ message.content.split('</think>')[0] + '</think>' }}{% endif %}"
        "{% generation %}" + said + end_inside + "{% endgeneration %}" + end_outside
        + "{% else %}{{ message.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ).replace("content_is_split", "true" if "split" in content else "false")


WEIGHTED = [
    {"messages": [
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!", "weight": 0},
        {"role": "user", "content": "今天?"}, {"role": "assistant", "content": "很好。", "weight": 1},
    ]},
    {"messages": [
        {"role": "user", "content": "1"}, {"role": "assistant", "content": "one"},
        {"role": "user", "content": "2"}, {"role": "assistant", "content": "two", "weight": 0},
    ]},
]
THINKING = [
    {"messages": [
        {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "<think>\nEasy.\n</think>\n\n2"},
        {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "<think>\nDouble.\n</think>\n\n4"},
    ]},
]
TOOLS = [{"type": "function", "function": {"name": "depth", "parameters": {"type": "object", "properties": {"lake": {"type": "string"}}}}}]
CALLS = """\
{%- if tools %}{{ tools | tojson }}{% endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}{% if message.content %}{{ message.content }}{% endif %}
    {%- for call in message.tool_calls or [] %}{{ call.function.name }} {{ call.function.arguments | tojson }}{% endfor %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
"""


def chat_with_calls(arguments):
    return {"tools": TOOLS, "messages": [
        {"role": "user", "content": "How deep is it?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "depth", "arguments": arguments}}]},
        {"role": "tool", "content": "9 m", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "9 m."},
    ]}


def without_nulls(value):
    """A dataset of Hugging Face adds the keys that other rows have, as null."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def alpaca_chat(row):
    prompt = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for asked, answered in row.get("history") or []:
        prompt += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    asked = "\n".join(text for text in (row["instruction"], row.get("input")) if text)
    return {"prompt": prompt + [{"role": "user", "content": asked}], "completion": [{"role": "assistant", "content": row["output"]}]}


def alpaca_text(row):
    with_input = row.get("input")
    start = (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request."
        if with_input else "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    )
    middle = f"### Input:\n{row['input']}\n\n" if with_input else ""
    return {"prompt": f"{start}\n\n### Instruction:\n{row['instruction']}\n\n{middle}### Response:\n", "completion": row["output"]}


def make_formats():
    generation = TEMPLATES["generation"]
    chats = [{"messages": CHATS[name]} for name in ("simple", "system")]
    texts = [{"text": text} for text in TEXTS]
    completions = [
        {"prompt": "What is the capital of France? ", "completion": "The capital of France is Paris."},
        {"prompt": "今天", "completion": "的天气很好，我们一起去山上看日出吧。"},
    ]
    alpaca = [
        {"instruction": "Name the capital of France.", "input": "", "output": "Paris."},
        {"instruction": "Translate.", "input": "今天", "output": "Today", "system": "Be brief."},
    ]
    history = [{"instruction": "And 2+2?", "input": "", "output": "4", "history": [["1+1?", "2"], ["2+1?", "3"]]}]
    preferences = [
        {"chosen": "The sky is blue today.", "rejected": "The sky is green."},
        {"prompt": "It is", "chosen": " blue.", "rejected": " green."},
    ]
    chat_preferences = [
        {"chosen": CHATS["system"], "rejected": CHATS["system"][:-1] + [{"role": "assistant", "content": "Rain."}]},
        {"chosen": CHATS["simple"], "rejected": CHATS["simple"][:-1] + [{"role": "assistant", "content": "Lyon."}]},
    ]
    ids = [list(range(5, 25)), list(range(30, 37)), [40, 41]]
    labels = [[-100] * 8 + row[8:] if len(row) > 8 else row for row in ids]
    half = [[int(i >= len(row) // 2) for i in range(len(row))] for row in ids]
    odd = [[i % 2 for i in range(len(row))] for row in ids]
    tokens = lambda **columns: [dict(zip(columns, values)) for values in zip(*columns.values())]
    plain, labelled = tokens(input_ids=ids), tokens(input_ids=ids, labels=labels, completion_mask=half)
    masked = tokens(input_ids=ids, completion_mask=half, assistant_masks=odd)
    attended = tokens(input_ids=ids, attention_mask=[[1] * len(row) for row in ids])
    by_template = [{"question": "2+2?", "answer": "4", "tags": ["a", "b"]}, {"question": "Où?", "answer": "", "tags": []}]
    line = "Q: {{ question }}\n{% if answer %}\nA: {{ answer }}{% endif %} {{ tags }}"
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    rendered = [{"text": environment.from_string(line).render(row)} for row in by_template]
    whole = {"max_length": 1024}
    assistant = {"max_length": 1024, "assistant_only_loss": True}

    # Name, rows, our template, our options, TRL's rows, TRL's template, TRL's options.
    cases = [
        ("token ids", plain, None, whole, plain, None, whole),
        ("token ids that are attended to", attended, None, whole, attended, None, whole),
        ("token ids cut at the end", plain, None, {"max_length": 6}, plain, None, {"max_length": 6}),
        ("labels", labelled, None, whole, labelled, None, whole),
        ("labels cut at the start", labelled, None, {"max_length": 6, "truncation_mode": "keep_end"}, labelled, None, {"max_length": 6, "truncation_mode": "keep_end"}),
        ("labels and a mask", labelled, None, whole | {"completion_only_loss": True}, labelled, None, whole | {"completion_only_loss": True}),
        ("masks, of which one is used", masked, None, whole, masked, None, whole),
        ("masks, of which both are used", masked, None, whole | {"completion_only_loss": True}, masked, None, whole | {"completion_only_loss": True}),
        ("packed labels", labelled, None, {"max_length": 24, "packing": True}, labelled, None, {"max_length": 24, "packing": True}),
        ("texts cut at the start", texts, None, {"max_length": 12, "truncation_mode": "keep_end"}, texts, None, {"max_length": 12, "truncation_mode": "keep_end"}),
        ("completions cut at the start", completions, None, {"max_length": 12, "truncation_mode": "keep_end"}, completions, None, {"max_length": 12, "truncation_mode": "keep_end"}),
        ("chats cut at the start", chats, None, {"max_length": 20, "truncation_mode": "keep_end"}, chats, None, {"max_length": 20, "truncation_mode": "keep_end"}),
        ("a text template", by_template, None, whole | {"text_template": line}, rendered, None, whole),
        ("a format that is named", [row | {"prompt": "x", "completion": "y"} for row in texts], None, whole | {"dataset_format": "text"}, texts, None, whole),
        ("calls of tools", [chat_with_calls({"lake": "Alma", "unit": "m"})], CALLS, whole, [chat_with_calls({"lake": "Alma", "unit": "m"})], CALLS, whole),
        ("calls of tools as text", [chat_with_calls('{"lake": "Alma", "unit": "m"}')], CALLS, whole, [chat_with_calls({"lake": "Alma", "unit": "m"})], CALLS, whole),
        ("Alpaca", alpaca, generation, whole, [alpaca_chat(row) for row in alpaca], generation, whole),
        ("Alpaca with a history", history, generation, whole, [{"messages": sum(alpaca_chat(row).values(), [])} for row in history], generation, assistant),
        ("Alpaca without its history", history, generation, whole | {"mask_history": True}, [alpaca_chat(row) for row in history], generation, assistant),
        ("Alpaca without a template", alpaca[:1] + [{key: alpaca[1][key] for key in ("instruction", "input", "output")}], "no template", whole, [alpaca_text(row) for row in alpaca], None, whole),
        ("preferences", preferences[:1], None, whole, [extract_prompt(row) for row in preferences[:1]], None, whole),
        ("preferences with a prompt", preferences[1:], None, whole, preferences[1:], None, whole),
        ("preferences in chats", chat_preferences, None, whole, [extract_prompt(row) for row in chat_preferences], None, whole),
        ("what the assistant says", chats, generation, whole | {"train_on": "assistant"}, chats, generation, assistant),
        ("the last turn", chats, generation, whole | {"train_on": "last"}, chats, marked("loop.last"), assistant),
        ("the last turn, by another name", chats, None, whole | {"mask_history": True, "assistant_only_loss": True}, chats, marked("loop.last").replace("{% for", "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}{% for", 1), assistant),
        ("messages with a weight", WEIGHTED, generation, whole, WEIGHTED, marked("message.weight != 0"), assistant),
        ("turns without their end", chats, generation, whole | {"train_on": "assistant", "train_on_eos": "none"}, chats, marked(end="outside"), assistant),
        ("turns of which the last has its end", chats[1:], generation, whole | {"train_on": "last", "train_on_eos": "last"}, chats[1:], marked("loop.last"), assistant),
        ("answers without the reasoning before them", THINKING, generation, whole | {"train_on": "assistant", "thinking": "mask"}, THINKING, marked(content="message.content.split('</think>')[-1]"), assistant),
        ("answers whose reasoning is dropped", THINKING, generation, whole | {"train_on": "assistant", "thinking": "drop"},
         [{"messages": [message | {"content": message["content"].split("</think>")[-1].strip()} for message in THINKING[0]["messages"]]}], generation, assistant),
    ]
    written = []
    for name, rows, template, options, trl_rows, trl_template, trl_options in cases:
        trl_rows = [{"prompt": row["prompt"], "completion": row["chosen"]} if "chosen" in row else row for row in trl_rows]
        examples = prepared("qwen", trl_rows, trl_template, **trl_options)
        written.append({"name": name, "rows": without_nulls(rows), "template": template, "options": options, "examples": examples})
    write("formats.json", written)


if __name__ == "__main__":
    make_length_groups()
    make_formats()
