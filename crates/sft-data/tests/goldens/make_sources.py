"""Writes sources.json, saved/ and arrow/: what `load_dataset` reads with data_files and data_dir, and from Arrow files,
and what `load_from_disk` reads.

    pip install datasets==5.2.0
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
from datasets import Dataset, DatasetDict, Features, Json, List, Value, load_dataset, load_from_disk

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
    parts = {"cases": cases, "arrow": make_arrow(), "saved": make_saved()}
    parts = ",\n".join(f'"{name}": [\n{lines(cases)}\n]' for name, cases in parts.items())
    (HERE / "sources.json").write_text(f'{{"tree": {tree},\n{parts}}}\n', encoding="utf-8")


if __name__ == "__main__":
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    main()
