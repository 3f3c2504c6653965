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
from make import HERE, TEXTS, prepared, tiny_model, write
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer


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


if __name__ == "__main__":
    make_length_groups()
