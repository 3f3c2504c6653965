"""Makes events.json: every event of transformers 5.17.0's Trainer, with global_step, epoch and what was logged.

`python make_events.py`. The model is one weight; only the order of events, the epochs and the learning rates count.
"""

import json
import pathlib
import tempfile

import torch
import transformers
from transformers import Trainer, TrainerCallback, TrainingArguments

HERE = pathlib.Path(__file__).parent
assert transformers.__version__ == "5.17.0", transformers.__version__

EVENTS = (
    "on_train_begin on_train_end on_epoch_begin on_epoch_end on_step_begin on_substep_end on_pre_optimizer_step "
    "on_optimizer_step on_step_end on_log on_evaluate on_save"
).split()

CASES = [  # rows, arguments
    (10, dict(num_train_epochs=2, eval_strategy="epoch", save_strategy="epoch", logging_steps=2)),
    (10, dict(num_train_epochs=2, gradient_accumulation_steps=3, eval_strategy="epoch", save_strategy="epoch",
              logging_strategy="epoch")),
    (10, dict(num_train_epochs=1.5, gradient_accumulation_steps=2, eval_strategy="steps", eval_steps=2,
              save_strategy="steps", save_steps=4, logging_steps=3, logging_first_step=True, warmup_steps=2)),
    (10, dict(max_steps=7, eval_strategy="epoch", save_strategy="epoch", logging_steps=0.5, eval_on_start=True)),
    (10, dict(num_train_epochs=2, eval_strategy="steps", eval_steps=3, eval_delay=4, save_strategy="no",
              lr_scheduler_type="cosine", warmup_steps=0.2)),
    (3, dict(num_train_epochs=3, gradient_accumulation_steps=8, eval_strategy="no", save_strategy="steps",
             save_steps=2, logging_steps=1)),
]


class OneWeight(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, labels=None):
        return {"loss": ((self.weight - x) ** 2).mean(), "logits": x}


class Record(TrainerCallback):
    def __init__(self):
        self.seen = []


def recorder(event):
    def record(self, args, state, control, logs=None, metrics=None, **kwargs):
        entry = dict(event=event, step=state.global_step, epoch=float(state.epoch or 0))
        keys = logs or metrics
        if keys is not None and event in ("on_log", "on_evaluate"):
            kind = "loss eval_loss train_loss".split()
            entry["kind"] = next(k for k in kind if k in keys)
            if "learning_rate" in keys:
                entry["learning_rate"] = keys["learning_rate"]
        self.seen.append(entry)

    return record


for name in EVENTS:
    setattr(Record, name, recorder(name))


def run(rows, arguments):
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, per_device_train_batch_size=2, learning_rate=1e-2, report_to=[], disable_tqdm=True, use_cpu=True,
            **arguments,
        )
        data = [{"x": float(i), "labels": 0} for i in range(rows)]
        record = Record()
        trainer = Trainer(OneWeight(), args, train_dataset=data, eval_dataset=data[:3], callbacks=[record])
        trainer.train()
    return record.seen


cases = [dict(rows=rows, arguments=arguments, events=run(rows, arguments)) for rows, arguments in CASES]
lines = ",\n".join(
    '{"rows": %d, "arguments": %s, "events": [\n%s]}'
    % (c["rows"], json.dumps(c["arguments"]), ",\n".join(map(json.dumps, c["events"])))
    for c in cases
)
(HERE / "events.json").write_text(f"[\n{lines}\n]\n")
