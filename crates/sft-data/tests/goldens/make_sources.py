"""Writes sources.json: what `load_dataset` reads with data_files and data_dir.

    pip install datasets==5.2.0
    python make_sources.py

Everything is derived from the texts below, so a second run writes the same bytes.
"""

import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp()

import datasets
from datasets import load_dataset

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
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    tree = json.dumps(TREE, ensure_ascii=False, indent=0)
    (HERE / "sources.json").write_text(f'{{"tree": {tree},\n"cases": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    main()
