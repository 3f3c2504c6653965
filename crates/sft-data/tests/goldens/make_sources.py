"""Writes sources.json, saved/ and arrow/: what `load_dataset` reads with data_files and data_dir, and from Arrow files,
what `load_from_disk` reads, and how datasets and TRL mix rows.

    pip install datasets==5.2.0 trl==1.16.0
    python make_sources.py

Everything is derived from the texts below, so a second run writes the same bytes.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp()

import datasets
import pyarrow as pa
import pyarrow.feather
from datasets import Dataset, DatasetDict, Features, Json, List, Value, interleave_datasets, load_dataset, load_from_disk
from trl import DatasetMixtureConfig, get_dataset

HERE = Path(__file__).parent


def line(text):
    return json.dumps({"text": text}) + "\n"


TREE = {
    "corpus/a.jsonl": line("a1") + line("a2"),
    "corpus/b.jsonl": line("b1"),
    "corpus/deep/c.jsonl": line("c1"),
    "corpus/deep/.hidden.jsonl": line("hidden"),
    "corpus/__cache__/d.jsonl": line("cached"),
    "corpus/deep/more/train.jsonl": line("t1"),
    "corpus/deep/more/test.jsonl": line("t2"),
    "corpus/README.md": "# Title\n",
    "carded/README.md": "---\nconfigs:\n- config_name: default\n  sep: ';'\n  data_files: one.csv\n---\n",
    "carded/one.csv": "id;text\na;one\n",
    "carded/two.csv": "id;text\nb;two, too\n",
    "odd/rows.data": line("odd"),
    "odd/lines.log": "first\nsecond\n",
}
# What `load_dataset` is given. @ stands for the folder of the tree.
CASES = [
    {"path": "@corpus", "data_files": "a.jsonl"},
    {"path": "@corpus", "data_files": ["b.jsonl", "a.jsonl"]},
    {"path": "@corpus", "data_files": "*.jsonl"},
    {"path": "@corpus", "data_files": "**/*.jsonl"},
    {"path": "@corpus", "data_files": "**"},
    {"path": "@corpus", "data_files": {"train": "deep/*.jsonl", "test": ["a.jsonl", "b.jsonl"]}},
    {"path": "@corpus", "data_files": [{"split": "train", "path": "b.jsonl"}, {"split": "dev", "path": ["a.jsonl"]}]},
    {"path": "@corpus", "data_files": ["a.jsonl", "a.jsonl"]},
    {"path": "@corpus", "data_files": ["a.jsonl", "*.jsonl"]},
    {"path": "@corpus", "data_files": "./deep//c.jsonl"},
    {"path": "@corpus", "data_files": "none.jsonl"},
    {"path": "@corpus", "data_files": "none-*.jsonl"},
    {"path": "@corpus", "data_files": ["none-*.jsonl", "a.jsonl"]},
    {"path": "@corpus", "data_files": {"train": "a.jsonl", "test": "none-*.jsonl"}},
    {"path": "@corpus", "data_dir": "deep"},
    {"path": "@corpus", "data_dir": "deep/more"},
    {"path": "@corpus", "data_dir": "none"},
    {"path": "@corpus", "data_dir": "deep", "data_files": "*.jsonl"},
    {"path": "@carded", "data_files": "two.csv"},
    {"path": "json", "data_files": "@corpus/a.jsonl"},
    {"path": "json", "data_files": "@corpus/*.jsonl"},
    {"path": "json", "data_files": {"train": ["@corpus/deep/**/*.jsonl"], "test": "@corpus/[ab].jsonl"}},
    {"path": "json", "data_dir": "@corpus/deep/more"},
    {"path": "json", "data_dir": "@corpus", "data_files": "b.jsonl"},
    {"path": "json", "data_files": "@odd/rows.data"},
    {"path": "text", "data_files": "@odd/lines.log"},
    {"path": "json", "data_files": "@corpus/none.jsonl"},
]


ROWS = {"id": ["a", "b", "c"], "text": ["one", None, "\u4e2d\u6587" * 20]}
CHATS = [
    [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    [],
    [{"role": "user", "content": "r"}, {"role": "assistant", "content": None}],
]


def columns():
    """Columns of every type that can be a text or a part of messages."""
    text = pa.array(ROWS["text"])
    return {
        "large_string": text.cast(pa.large_string()),
        "string_view": text.cast(pa.string_view()),
        "binary": text.cast(pa.binary()),
        "dictionary": text.dictionary_encode(),
        "dictionary_int8": text.cast(pa.dictionary(pa.int8(), pa.string())),
        "messages": pa.array(CHATS),
        "large_list": pa.array([["x", None], [], None], pa.large_list(pa.string())),
        "fixed_list": pa.array([["x", "y"], None, ["z", "w"]], pa.list_(pa.string(), 2)),
        "struct": pa.array([{"b": "x", "a": None}, None, {"b": "y", "a": ["z"]}]),
        "numbers": pa.array([{"i": 1, "u": 2, "f": 0.5, "h": 1.5, "t": True}, None, {"i": -1}],
                            pa.struct([("i", pa.int8()), ("u", pa.uint64()), ("f", pa.float32()), ("h", pa.float64()),
                                       ("t", pa.bool_())])),
        "none": pa.nulls(3),
        "empty_lists": pa.array([[], [], []], pa.list_(pa.null())),
    }


def make_arrow():
    folder = HERE / "arrow"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    table = pa.table(ROWS)
    tables = {f"{name}.arrow": pa.table({"text": column}) for name, column in columns().items()}
    tables |= {"stream.arrow": table, "batches.arrow": pa.concat_tables([table, table.slice(1)])}
    for name, table in tables.items():
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=2 if name == "batches.arrow" else None)
    table = pa.table(ROWS)
    for codec in (None, "lz4", "zstd"):
        name = f"file_{codec or 'none'}.arrow"
        with pa.OSFile(str(folder / name), "wb") as file:
            with pa.ipc.new_file(file, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
                writer.write_table(table)
        tables[name] = table
    pyarrow.feather.write_feather(table, folder / "rows.feather")
    cases = []
    for name in sorted(tables):
        loaded = load_dataset("arrow", data_files=str(folder / name), split="train")
        cases.append({"file": name, "columns": loaded.column_names, "rows": [list(row.values()) for row in loaded]})
    return cases


def make_saved():
    folder = HERE / "saved"
    shutil.rmtree(folder, ignore_errors=True)
    many = Dataset.from_dict({"text": [f"row {number}" for number in range(7)]})
    one = Dataset.from_dict({"text": ["one", "two"], "more": [1, 2]})
    chats = Features({"messages": List({"role": Value("string"), "content": Json()})})
    parts = [[{"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role": "assistant", "content": "ho"}]]
    many.save_to_disk(folder / "shards", num_shards=3)
    many.select([5, 1, 3]).save_to_disk(folder / "selected")
    DatasetDict({"train": many.select(range(3)), "validation": one.select_columns("text")}).save_to_disk(folder / "dict")
    Dataset.from_dict({"messages": parts}, features=chats).save_to_disk(folder / "json")
    cases = []
    for name in ("shards", "selected", "dict", "json"):
        loaded = load_from_disk(folder / name)
        splits = loaded if isinstance(loaded, DatasetDict) else {"train": loaded}
        cases.append({"folder": name, "splits": {split: [row for row in rows] for split, rows in splits.items()}})
    # What changes with each run and is not read.
    for path in folder.rglob("state.json"):
        state = json.loads(path.read_text())
        path.write_text(json.dumps(state | {"_fingerprint": "0"}, indent=2) + "\n")
    return cases


STRATEGIES = {
    "interleave_under": "first_exhausted",
    "interleave_over": "all_exhausted",
    "interleave_once": "all_exhausted_without_replacement",
}


def make_interleaved():
    """Rows as numbers of datasets and of rows in them."""
    cases = []
    for lengths in ([3, 4, 5], [1, 7], [6, 2, 2], [300, 900]):
        sets = [Dataset.from_dict({"at": [f"{which},{row}" for row in range(rows)]}) for which, rows in enumerate(lengths)]
        shares = {2: [[0.25, 0.75], [0.9, 0.1], [1.0, 0.0]], 3: [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]}[len(lengths)]
        for ours, theirs in STRATEGIES.items():
            for seed, probabilities in [(42, None)] + [(seed, share) for share in shares for seed in (0, 42, 2**40)]:
                if probabilities and 0.0 in probabilities and ours != "interleave_under":
                    continue
                mixed = interleave_datasets(sets, probabilities, seed, stopping_strategy=theirs)["at"]
                case = {"lengths": lengths, "strategy": ours, "probabilities": probabilities, "seed": seed}
                if len(mixed) > 60:
                    weighted = sum((index + 1) * (int(at.split(",")[0]) * 1000 + int(at.split(",")[1])) for index, at in enumerate(mixed))
                    case |= {"rows": len(mixed), "checksum": weighted}
                else:
                    case["order"] = [[int(number) for number in at.split(",")] for at in mixed]
                cases.append(case)
    return cases


def make_fractions():
    """How many rows of each dataset TRL takes."""
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for lengths, fractions in [
            ([10, 10], [0.5, 0.5]), ([10, 30, 7], [0.2, 0.5, 0.3]), ([5, 5], [3, 1]), ([9, 4], [1, 0]), ([25, 3], [0.5, 0.1]),
            ([5, 100], [1, 0.5]), ([7, 7, 7], [0.1, 0.2, 0.7]),
        ]:
            configs = []
            for which, rows in enumerate(lengths):
                path = Path(folder) / f"{'-'.join(map(str, lengths))}-{which}.jsonl"
                path.write_text("".join(line(f"{which}") for _ in range(rows)))
                configs.append({"path": "json", "data_files": str(path), "fraction": fractions[which]})
            rows = get_dataset(DatasetMixtureConfig(datasets=configs))["train"]["text"]
            cases.append({"lengths": lengths, "fractions": fractions,
                          "taken": [sum(row == str(which) for row in rows) for which in range(len(lengths))]})
    return cases


def lines(cases):
    return ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":"), default=bytes.decode) for case in cases)


def main():
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder).resolve()
        for name, text in TREE.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        for options in CASES:
            given = json.loads(json.dumps(options).replace("@", f"{folder}/"))
            case = {"options": options}
            try:
                splits = load_dataset(**given)
                case["splits"] = {name: list(split["text"]) for name, split in splits.items()}
            except Exception as error:
                case["error"] = type(error).__name__
            cases.append(case)
    tree = json.dumps(TREE, ensure_ascii=False, indent=0)
    parts = {"cases": cases, "arrow": make_arrow(), "saved": make_saved(), "interleaved": make_interleaved(),
             "fractions": make_fractions()}
    parts = ",\n".join(f'"{name}": [\n{lines(cases)}\n]' for name, cases in parts.items())
    (HERE / "sources.json").write_text(f'{{"tree": {tree},\n{parts}}}\n', encoding="utf-8")


if __name__ == "__main__":
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    main()
