#!/usr/bin/env python3
"""Trains the same model on the same rows with Hugging Face TRL and with train_and_save, on one GPU, one after the other; prints both.

    beside_trl.py --ours target/release/train_and_save [--rank 1024] [--lengths fixed|varying] [--checkpointing true|false]
                  [--shape 0.5b|135m|qwen2.5-0.5b|qwen2.5-1.5b] [--batch 8] [--seq 1024] [--steps 12] [--folder DIR] [--only ours|trl] [-- further flags for ours]

The model has the shape of Qwen1.5-0.5B or another of SHAPES, and random weights; rows are random words. Step times are medians over the second half of the
steps, each waited for; peak memory is what the allocator of torch had given out at most.
Tokens a second are means over the second half; with --trl_steps TRL takes so many steps alone, and its mean is over the last 500 of them.
Needs torch, transformers, trl, datasets, accelerate, galore-torch. With --folder, a model and rows made before are used again.
"""
import argparse, json, random, statistics, subprocess, sys, time, types
from pathlib import Path

from word_tokenizer import save_word_tokenizer

GALORE = "rank={}, update_proj_gap=500, scale=1.8"
# Vocabulary, width, width of the MLP, layers, query heads, key and value heads. All tie the head to the embedding.
SHAPES = {
    "0.5b": ("qwen2", 151_936, 1024, 2816, 24, 16, 16),
    "135m": ("llama", 49_152, 576, 1536, 30, 9, 3),
    "qwen2.5-0.5b": ("qwen2", 151_936, 896, 4864, 24, 14, 2),
    "qwen2.5-1.5b": ("qwen2", 151_936, 1536, 8960, 28, 12, 2),
}
FIGURES = ["step_time_ms_median", "first_step_ms", "train_tokens_per_second", "peak_memory_bytes", "train_loss"]


def make_case(folder, options):
    if (folder / "dataset" / "train.jsonl").exists():
        return
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

    torch.manual_seed(0)
    family, vocabulary, width, mlp_width, layers, heads, key_heads = SHAPES[options.shape]
    config = {"qwen2": Qwen2Config, "llama": LlamaConfig}[family](
        vocab_size=vocabulary, hidden_size=width, intermediate_size=mlp_width, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=key_heads, max_position_embeddings=32_768, tie_word_embeddings=True, eos_token_id=1, pad_token_id=2, bos_token_id=None,
    )  # fmt: skip
    with torch.device("cuda"):
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder / "model")
    save_word_tokenizer(folder / "model", vocabulary)
    (folder / "dataset").mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    for split, rows in (("train", options.steps * options.batch), ("test", options.batch)):
        with open(folder / "dataset" / f"{split}.jsonl", "w") as file:
            for _ in range(rows):
                length = options.seq - 1  # and the end-of-text token
                if options.lengths == "varying":
                    length = max(16, min(length, int(draw.lognormvariate(5.5, 0.8))))
                text = " ".join(f"w{draw.randrange(3, vocabulary)}" for _ in range(length))
                file.write(json.dumps({"text": text}) + "\n")


def run_trl(folder, options):
    # galore-torch imports bitsandbytes for optimizers that are not used here.
    for name in ("bitsandbytes", "bitsandbytes.optim", "bitsandbytes.optim.optimizer"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = types.SimpleNamespace(name=name, loader=None, origin=None, submodule_search_locations=[])
    sys.modules["bitsandbytes.optim.optimizer"].Optimizer2State = object
    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        times = []

        def on_step_begin(self, *_, **__):
            torch.cuda.synchronize()
            self.start = time.perf_counter()

        def on_step_end(self, *_, **__):
            torch.cuda.synchronize()
            self.times.append(time.perf_counter() - self.start)

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "model")
    data = load_dataset("json", data_files={s: str(folder / "dataset" / f"{s}.jsonl") for s in ("train", "test")})
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.bfloat16, attn_implementation="sdpa", device_map="auto")
    model.config.use_cache = False
    galore = options.trl_optim == "galore_adamw"
    settings = SFTConfig(
        output_dir=str(folder / "trl"), optim=options.trl_optim, max_steps=options.trl_steps, use_liger_kernel=options.liger,
        optim_args=GALORE.format(options.rank) if galore else None, optim_target_modules=["attn", "mlp"] if galore else None,
        learning_rate=1e-5, bf16=True, num_train_epochs=1, warmup_steps=0.1, lr_scheduler_type="linear", logging_steps=1,
        per_device_train_batch_size=options.batch, per_device_eval_batch_size=options.batch, max_length=options.seq,
        gradient_checkpointing=options.checkpointing == "true", eval_strategy="epoch", save_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    clock = Clock()
    trainer = SFTTrainer(
        model=model, args=settings, train_dataset=data["train"], eval_dataset=data["test"], processing_class=tokenizer, callbacks=[clock]
    )
    torch.cuda.reset_peak_memory_stats()
    metrics = trainer.train().metrics
    half = clock.times[len(clock.times) // 2 :]
    logs = [log for log in trainer.state.log_history if "num_tokens" in log and "loss" in log]
    tokens_per_step = logs[-1]["num_tokens"] / logs[-1]["step"]
    return {
        "step_time_ms_median": statistics.median(half) * 1e3,
        "first_step_ms": clock.times[0] * 1e3,
        "train_tokens_per_second": tokens_per_step / statistics.mean(clock.times[-500:] if options.trl_steps > 500 else half),
        "peak_memory_bytes": torch.cuda.max_memory_allocated(),
        "train_loss": metrics["train_loss"],
    }


def run_ours(folder, options):
    command = [options.ours, "--model_name", folder / "model", "--dataset_name", folder / "dataset", "--output_dir", folder / "ours"]
    flags = {
        "num_train_epochs": 1, "per_device_train_batch_size": options.batch, "per_device_eval_batch_size": options.batch,
        "max_length": options.seq, "logging_steps": 1, "save_strategy": "no", "dtype": "bfloat16",
        "optim_args": GALORE.format(options.rank), "gradient_checkpointing": options.checkpointing,
    }  # fmt: skip
    command += [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    run = subprocess.run([*map(str, command), *options.further], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{options.ours} ended with {run.returncode}:\n{run.stderr[-3000:]}")
    return json.loads((folder / "ours" / "train_results.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", default="target/release/train_and_save")
    parser.add_argument("--rank", type=int, default=1024)
    parser.add_argument("--lengths", choices=["fixed", "varying"], default="fixed")
    parser.add_argument("--checkpointing", choices=["true", "false"], default="true")
    parser.add_argument("--shape", choices=SHAPES, default="0.5b")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--trl_optim", default="galore_adamw")
    parser.add_argument("--trl_steps", type=int, default=-1)
    parser.add_argument("--liger", action="store_true", help="TRL with Liger's kernels")
    parser.add_argument("--folder", type=Path, default=Path("beside-trl"))
    parser.add_argument("--only", choices=["ours", "trl"])
    parser.add_argument("further", nargs="*", help="flags for train_and_save, after --")
    options = parser.parse_args()
    make_case(options.folder, options)
    if options.only == "trl":  # in a process of its own, so that ours finds the GPU empty
        print("TRL " + json.dumps(run_trl(options.folder, options)))
        return
    columns = {}
    if options.only is None:
        again = [sys.executable, __file__, "--only", "trl"]
        for name in ("rank", "lengths", "checkpointing", "shape", "batch", "seq", "steps", "trl_optim", "trl_steps", "folder"):
            again += [f"--{name}", str(getattr(options, name))]
        again += ["--liger"] if options.liger else []
        trl = subprocess.run(again, capture_output=True, text=True)
        line = next((line for line in trl.stdout.splitlines() if line.startswith("TRL ")), None)
        if line is None:
            sys.exit(trl.stderr[-3000:])
        columns["TRL"] = json.loads(line[4:])
    columns["here"] = run_ours(options.folder, options)
    print(f"{'':26}" + "".join(f"{name:>16}" for name in columns) + ("      TRL / here" if len(columns) == 2 else ""))
    for figure in FIGURES:
        values = [column[figure] for column in columns.values()]
        ratio = f"{values[0] / values[1]:16.3f}" if len(values) == 2 else ""
        print(f"{figure:26}" + "".join(f"{value:16.1f}" if value > 100 else f"{value:16.5f}" for value in values) + ratio)


if __name__ == "__main__":
    main()
