#!/usr/bin/env python3
"""Has the program run out of a GPU's memory in earnest: a model of 9 million parameters, and a batch of a million tokens whose activations
take some 180 GB, as nothing is recomputed. Without --auto_find_batch_size the run must end with code 1 and one line that says what was
asked for, what is free and what helps, and leave no checkpoint; with it, it must come to its end with a smaller batch, and its first loss must be
that of a run which was given this batch. Ends with 1 when something of that does not hold. Half a minute; up to 200 GB of GPU memory fit.

    out_of_memory.py --ours target/release/train_and_save [--folder DIR]

Needs torch, transformers, tokenizers for making the model; a folder that has one already is used as it is.
"""
import argparse, json, random, shutil, subprocess, sys, time
from pathlib import Path

from word_tokenizer import save_word_tokenizer

VOCABULARY = 4096
ROWS, TOKENS = 1024, 1024
TOLERANCE = 2e-3  # of the loss: bfloat16 activations, sums in other pieces


def make_case(folder):
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(0)
    shape = dict(hidden_size=128, intermediate_size=512, num_hidden_layers=32, num_attention_heads=2, num_key_value_heads=2)
    config = Qwen2Config(vocab_size=VOCABULARY, tie_word_embeddings=True, eos_token_id=1, pad_token_id=2, bos_token_id=None, **shape)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder / "model")
    save_word_tokenizer(folder / "model", VOCABULARY)
    draw = random.Random(0)
    with open(folder / "train.jsonl", "w") as file:
        for _ in range(ROWS):
            file.write(json.dumps({"text": " ".join(f"w{draw.randrange(3, VOCABULARY)}" for _ in range(TOKENS - 1))}) + "\n")


def run(options, name, steps, flags):
    output = options.folder / name
    shutil.rmtree(output, ignore_errors=True)
    command = [options.ours, "--model_name", options.folder / "model", "--dataset_name", options.folder / "train.jsonl", "--output_dir", output]
    command += ["--device", "cuda", "--optim", "adamw_torch", "--max_length", TOKENS, "--max_steps", steps, "--logging_steps", 1]
    command += ["--eval_strategy", "no", "--save_strategy", "no", "--recompute", "none", "--disable_tqdm"]
    started = time.time()
    finished = subprocess.run([str(part) for part in command + flags], capture_output=True, text=True)
    print(f"{name}: code {finished.returncode} after {time.time() - started:.0f} s", flush=True)
    return output, finished


def check(holds, what, text):
    if not holds:
        sys.exit(f"FAILED: {what}\n{text[-3000:]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", default="target/release/train_and_save")
    parser.add_argument("--folder", type=Path, default=Path("out-of-memory"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if not (options.folder / "train.jsonl").exists():
        make_case(options.folder)

    whole_batch = ["--per_device_train_batch_size", ROWS]
    output, ended = run(options, "ended", 1, whole_batch)
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    check(ended.returncode == 1, "the exit code is 1", ended.stderr)
    check(len(errors) == 1 and ended.stderr.splitlines()[-1] == errors[0], "the last line is the one error", ended.stderr)
    print(errors[0])
    for part in [
        f"forward and backward at step 1 with {ROWS} rows in a batch: out of memory on cuda:0: ",
        " were asked for, ",
        " are free; what helps: ",
        f"--per_device_train_batch_size {ROWS // 2} with --gradient_accumulation_steps 2",
        "--recompute block",
        f"--max_length (now {TOKENS})",
    ]:
        check(part in errors[0], f"it says `{part}`", ended.stderr)
    check("Exception raised" not in ended.stderr and "panicked" not in ended.stderr, "no back-trace", ended.stderr)
    left = sorted(path.name for path in output.iterdir()) if output.exists() else []
    check(all(name == "metrics.jsonl" for name in left), "nothing but metrics is left", str(left))

    output, found = run(options, "found", 2, whole_batch + ["--auto_find_batch_size"])
    check(found.returncode == 0, "it comes to its end", found.stderr)
    entries = [json.loads(line) for line in open(output / "metrics.jsonl")]
    tries = [entry for entry in entries if "out_of_memory" in entry]
    check(tries and all("cuda:0" in entry["out_of_memory"] for entry in tries), "the search is in the log", str(entries))
    rows = json.load(open(output / "trainer_state.json"))["train_batch_size"]
    check(rows < ROWS and rows == tries[-1]["per_device_train_batch_size"], "a smaller batch is in the state", str(rows))
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    check(len(losses) == 2, "two steps", str(entries))

    _, given = run(options, "given", 1, ["--per_device_train_batch_size", rows, "--gradient_accumulation_steps", ROWS // rows])
    check(given.returncode == 0, "the batch that was found fits", given.stderr)
    expected = next(entry["loss"] for entry in map(json.loads, open(options.folder / "given" / "metrics.jsonl")) if "loss" in entry)
    print(f"{rows} rows fit; loss {losses[0]}, {expected} when they were given; {len(tries)} batches did not fit")
    check(abs(losses[0] - expected) <= TOLERANCE * expected, "the same step", "")
    print("passed")


main()
