"""Makes the goldens of this folder from transformers 5.17.0 and torch 2.11.0: `python make.py`.

schedules.json: the learning rate of every optimizer step, as transformers' schedulers give it.
plateaus.json: the learning rate after each evaluation, as `reduce_lr_on_plateau` gives it.
trainer_state.json: what TrainerState.save_to_json writes, and one key that no version knows.
"""

import json
import pathlib

import torch
import transformers
from transformers.trainer_callback import TrainerState
from transformers.optimization import get_scheduler

HERE = pathlib.Path(__file__).parent
assert transformers.__version__ == "5.17.0", transformers.__version__

CASES = [  # type, kwargs
    ("linear", {}),
    ("cosine", {}),
    ("cosine", {"num_cycles": 1.25}),
    ("cosine_with_restarts", {}),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("polynomial", {}),
    ("polynomial", {"power": 2.5, "lr_end": 1e-6}),
    ("constant", {}),
    ("constant_with_warmup", {}),
    ("inverse_sqrt", {}),
    ("inverse_sqrt", {"timescale": 7}),
    ("cosine_with_min_lr", {"min_lr": 2e-6}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.1, "num_cycles": 1.25}),
    ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1}),
    ("cosine_warmup_with_min_lr", {"min_lr": 2e-6, "warmup_lr_rate": 0.2}),
    ("warmup_stable_decay", {"num_decay_steps": 6}),
    ("warmup_stable_decay", {"num_decay_steps": 50, "decay_type": "1-sqrt", "warmup_type": "1-sqrt"}),
    ("warmup_stable_decay", {"num_decay_steps": 9, "num_stable_steps": 12, "min_lr_ratio": 0.1}),
    (
        "warmup_stable_decay",
        {"num_decay_steps": 20, "decay_type": "linear", "warmup_type": "cosine", "min_lr_ratio": 0.25},
    ),
    ("warmup_stable_decay", {"num_decay_steps": 30, "num_cycles": 1.5}),
]
RUNS = [(1, 0), (10, 0), (37, 4), (37, 36), (5, 5), (200, 20)]  # training steps, warm-up steps


def learning_rates(kind, kwargs, training_steps, warmup_steps, learning_rate=1e-5):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=learning_rate)
    scheduler = get_scheduler(kind, optimizer, warmup_steps, training_steps, kwargs)
    rates = []
    for _ in range(training_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < training_steps:
            scheduler.step()
    return rates


schedules = [
    {
        "lr_scheduler_type": kind,
        "lr_scheduler_kwargs": kwargs,
        "training_steps": training_steps,
        "warmup_steps": warmup_steps,
        "learning_rates": learning_rates(kind, kwargs, training_steps, warmup_steps),
    }
    for kind, kwargs in CASES
    for training_steps, warmup_steps in RUNS
]
lines = ",\n".join(json.dumps(schedule) for schedule in schedules)
(HERE / "schedules.json").write_text(f"[\n{lines}\n]\n")

PLATEAUS = [
    {},
    {"patience": 2},
    {"patience": 0, "factor": 0.5, "min_lr": 1e-6},
    {"patience": 1, "cooldown": 3, "threshold": 0.05},
    {"patience": 1, "threshold": 0.05, "threshold_mode": "abs", "factor": 0.3, "eps": 1e-7},
    {"patience": 3, "mode": "max"},
    {"patience": 3, "mode": "max", "threshold": 0.02, "threshold_mode": "abs", "cooldown": 1},
]


def plateau(kwargs, metrics, learning_rate=1e-5):
    """The rate after each evaluation."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=learning_rate)
    scheduler = get_scheduler("reduce_lr_on_plateau", optimizer, 0, 1, kwargs)
    rates = []
    for metric in metrics:
        scheduler.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


# Falls, stays, rises and falls once more, with some noise.
metrics = [
    round(2.0 / (1 + min(at, 60) / 20) + max(0, at - 120) / 400 + ((at * 7919) % 13) / 400, 6) for at in range(200)
]
plateaus = [
    {"lr_scheduler_kwargs": kwargs, "metrics": metrics, "learning_rates": plateau(kwargs, metrics)}
    for kwargs in PLATEAUS
]
lines = ",\n".join(json.dumps(case) for case in plateaus)
(HERE / "plateaus.json").write_text(f"[\n{lines}\n]\n")

state = TrainerState(
    epoch=2.0,
    global_step=6,
    max_steps=30,
    logging_steps=85,
    eval_steps=85,
    save_steps=500,
    train_batch_size=8,
    num_train_epochs=10,
    num_input_tokens_seen=4321,
    log_history=[
        {"loss": 3.25, "grad_norm": 1.5, "learning_rate": 1e-05, "epoch": 1.0, "step": 3},
        {"eval_loss": 2.5, "eval_runtime": 0.1, "epoch": 1.0, "step": 3},
        {"eval_loss": 2.75, "eval_runtime": 0.1, "epoch": 2.0, "step": 6},
    ],
    best_metric=2.5,
    best_global_step=3,
    best_model_checkpoint="out/checkpoint-3",
    stateful_callbacks={"EarlyStoppingCallback": {"args": {}, "attributes": {"early_stopping_patience_counter": 1}}},
)
state.save_to_json(HERE / "trainer_state.json")
written = json.loads((HERE / "trainer_state.json").read_text())
written["some_later_key"] = [1]
(HERE / "trainer_state.json").write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
