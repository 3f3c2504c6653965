"""Writes readers/, readers.json and cards.json: what `datasets` reads from odd files, with reader options, and with dataset cards.

    pip install datasets==5.2.0
    python make_readers.py

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
import pyarrow.parquet as pq
from datasets import load_dataset, load_dataset_builder

HERE = Path(__file__).parent

CSV = "id,text\na,one\nb,two\n"
# File, content, options of the reader.
FILES = [
    ("twice.csv", "text,text,text.1,,\na,b,c,d,e\n", {}),
    ("twice_later.csv", "text,text.1,text\na,b,c\n", {}),
    ("unnamed.csv", ",Unnamed: 0,text\na,b,c\n", {}),
    ("missing.csv", "id,text\na,NA\nb,null\nc,None\nd,nan\ne,\"\"\nf,#N/A\ng,<NA>\nh,N/A\ni,n/a\nj,NULL\nk,NaN\nl,-nan\nm,-NaN\nn,#NA\no,1.#IND\np,none\nq,NAN\nr, NA\ns,\"NA\"\n", {}),
    ("blank.csv", "\ntext,id\n\n  lead,a\n   \n\t\ntrail  ,b\n\n", {}),
    ("quotes.csv", "text,id\n\"ab\"cd,a\nx\"y\"z,b\n\"a\"\"b\",c\n \"sp\",d\n\"line\r\nbreak, comma\",e\n", {}),
    ("returns.csv", "text,id\rx,a\ry,b\r", {}),
    ("mark.csv", "\ufeff\"text\",id\nx,a\n", {}),
    ("hash.csv", "text,id\n#x,a\ny#z,b\n", {}),
    ("looks_typed.csv", "text,id\nTrue,a\n007,b\n1.50,c\nword,d\n", {}),
    ("short.csv", "id,text,more\na\nb,x\n", {}),
    ("long.csv", "text,id\na,b\nc,d,e\n", {}),
    ("open.csv", "text,id\na,b\n\"c,d\ne,f\n", {}),
    ("plain.csv", CSV, {"usecols": None, "header": 0}),
    ("plain.csv", CSV, {"header": None}),
    ("plain.csv", CSV, {"names": ["text", "other"]}),
    ("plain.csv", CSV, {"column_names": ["text", "other", "more"]}),
    ("plain.csv", CSV, {"names": ["text", "other"], "header": 0}),
    ("plain.csv", CSV, {"skiprows": 1}),
    ("plain.csv", CSV, {"na_values": "one"}),
    ("plain.csv", CSV, {"na_values": ["one", "b"], "keep_default_na": False}),
    ("missing_few.csv", "id,text\na,NA\nb,\nc,x\n", {"keep_default_na": False}),
    ("missing_few.csv", "id,text\na,NA\nb,\nc,x\n", {"na_filter": False}),
    ("missing_few.csv", "id,text\na,NA\nb,\nc,x\n", {"na_values": ["x"]}),
    ("semicolon.csv", "id;text\na;x,y\n", {"sep": ";"}),
    ("semicolon.csv", "id;text\na;x,y\n", {"delimiter": ";", "sep": "|"}),
    ("tab.csv", "id\ttext\na\tx,y\n", {"sep": "\t"}),
    ("tab.csv", "id\ttext\na\tx,y\n", {"sep": "\\t"}),
    ("apostrophe.csv", "id,text\na,'x,y'\nb,\"z\"\n", {"quotechar": "'"}),
    ("no_quotes.csv", "id,text\na,\"x\nb,y\"\n", {"quoting": 3}),
    ("utf16.csv", "id,text\na,中文 🙂\n".encode("utf-16"), {"encoding": "utf-16"}),
    ("utf16_big.csv", "id,text\na,中文\n".encode("utf-16-be"), {"encoding": "utf-16-be"}),
    ("tab.tsv", "id\ttext\na\tx,y\n", {}),
    ("semicolon.tsv", "id;text\na;x\ty\n", {"sep": ";"}),
    ("not_finite.jsonl", '{"id":"a","text":"NaN","s":NaN}\n{"id":"b","text":"x","s":-Infinity}\n{"id":"c","text":"y","s":Infinity}\n', {}),
    ("not_finite.json", '[{"id":"a","text":"NaN","s":NaN},\n{"id":"b","text":"x","s":-Infinity}]', {}),
    ("not_finite_pretty.json", '{\n"id":"a","text":"NaN",\n"s":NaN}\n', {}),
    ("not_json.jsonl", '{"text":"a","s":nan}\n', {}),
    ("not_json_either.jsonl", '{"text":"a","s":+Infinity}\n', {}),
    ("twice.jsonl", '{"text":"a","text":"b"}\n', {}),
    ("twice_unused.jsonl", '{"text":"a","x":"1","x":"2"}\n', {}),
    ("surrogate.jsonl", '{"text":"a\\ud800b"}\n', {}),
    ("surrogates.jsonl", '{"text":"\\ud83d\\ude00"}\n', {}),
    ("several.jsonl", '{"text":"a"}{"text":"b"}\n{"text":"c"} {"text":"d"}\n', {}),
    ("returns.jsonl", '{"text":"a"}\r{"text":"b"}\r', {}),
    ("null.jsonl", '{"text":"a"}\nnull\n', {}),
    ("comma.jsonl", '{"text":"a"},\n{"text":"b"}\n', {}),
    ("large.jsonl", '{"text":"a","x":1e400}\n', {}),
    ("separator.jsonl", '{"text":"a\u2028b"}\n', {}),
    ("field.json", '{"version":"1","rows":[{"text":"a"},{"text":"b"}],"more":[1]}', {"field": "rows"}),
    ("field_pretty.json", json.dumps({"rows": [{"text": "a"}, {"text": "b"}]}, indent=1), {"field": "rows"}),
    ("field_texts.json", '{"rows":["a","b"]}', {"field": "rows"}),
    ("field_none.json", '{"rows":["a","b"]}', {"field": "none"}),
    ("field_lines.jsonl", '{"rows":[{"text":"a"}]}\n{"rows":[{"text":"b"}]}\n', {"field": "rows"}),
    ("utf16.jsonl", '{"text":"中文 🙂"}\n'.encode("utf-16"), {"encoding": "utf-16"}),
    ("utf16.txt", "one\r\n中文\n".encode("utf-16"), {"encoding": "utf-16"}),
    ("mark.txt", "\ufeffone\n".encode(), {"encoding": "utf-8-sig"}),
]
ROWS = {"id": ["a", "b", "c"], "text": ["one", None, "中文" * 50]}
MODULES = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".txt": "text", ".parquet": "parquet"}


def make_readers():
    shutil.rmtree(HERE / "readers", ignore_errors=True)
    folder = HERE / "readers"
    folder.mkdir()
    files = list(FILES)
    for codec in ("brotli", "gzip", "lz4", "none", "snappy", "zstd"):
        for version in ("1.0", "2.0"):
            name = f"{codec}_{version[0]}.parquet"
            pq.write_table(pa.table(ROWS), folder / name, compression=codec, data_page_version=version)
            files.append((name, None, {}))
    table = pa.table(ROWS)
    for name, column in {
        "large_string": table["text"].cast(pa.large_string()),
        "string_view": table["text"].cast(pa.string_view()),
        "dictionary": table["text"].dictionary_encode(),
        "struct": pa.array([{"b": "x", "a": None}, None, {"b": "y", "a": ["z"]}]),
        "large_list": pa.array([["x", None], [], None], pa.large_list(pa.string())),
        "fixed_list": pa.array([["x", "y"], None, ["z", "w"]], pa.list_(pa.string(), 2)),
        "list_of_structs": pa.array([[{"role": "user", "content": "x"}], [], None]),
    }.items():
        pq.write_table(pa.table({"text": column}), folder / f"{name}.parquet", compression="none")
        files.append((f"{name}.parquet", None, {}))
    twice = pa.Table.from_arrays([table["id"], table["text"], table["text"]], names=["id", "text", "text"])
    pq.write_table(twice, folder / "twice.parquet", compression="none")
    files.append(("twice.parquet", None, {}))
    cases = []
    for name, content, options in files:
        path = folder / name
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        case = {"file": name, "options": options}
        try:
            extra = {"sep": "\t"} if path.suffix == ".tsv" else {}
            loaded = load_dataset(MODULES[path.suffix], data_files=str(path), split="train", **{**extra, **options})
            # JSON has no such numbers.
            finite = lambda value: None if isinstance(value, float) and value - value != 0 else value
            case["columns"] = loaded.column_names
            case["rows"] = [[finite(row[column]) for column in loaded.column_names] for row in loaded]
        except Exception as error:
            case["error"] = type(error.__cause__ or error).__name__
        cases.append(case)
    write("readers.json", cases)


NORTH_SOUTH = ["north/train.jsonl", "north/test.jsonl", "south/train.jsonl", "south/test.jsonl"]
# YAML of the card, YAML of its own file, names of files, the configuration that is asked for.
CARDS = [
    ("configs:\n- config_name: default\n  data_dir: south\n", None, NORTH_SOUTH, None),
    ("configs:\n- config_name: north\n  data_dir: north\n- config_name: south\n  data_dir: ./south/\n", None, NORTH_SOUTH, "south"),
    ("configs:\n- config_name: a\n", None, ["train.jsonl", "test.jsonl"], None),
    ("configs:\n- config_name: a\n  data_dir: d\n", None, ["d/data/train-00000-of-00001.jsonl", "d/data/test-00000-of-00001.jsonl", "train.jsonl"], None),
    ("configs:\n- config_name: a\n  data_dir: d\n", None, ["d/x.jsonl", "d/y.jsonl", "test.jsonl"], None),
    ("configs:\n- config_name: a\n  data_dir: none\n", None, ["train.jsonl"], None),
    ("license: mit\nlicense: apache-2.0\nconfigs:\n- config_name: a\n  data_files: a.jsonl\n  data_files: b.jsonl\n", None, ["a.jsonl", "b.jsonl"], None),
    ("configs:\n- config_name: a\n  data_files: a.jsonl\nconfigs:\n- config_name: b\n  data_files: b.jsonl\n", None, ["a.jsonl", "b.jsonl"], None),
    ("configs:\n- config_name: a\n  data_files: a.jsonl\n- config_name: a\n  data_files: b.jsonl\n", None, ["a.jsonl", "b.jsonl"], None),
    ("configs:\n- config_name: a\n  data_files: a.jsonl\n", "configs:\n- config_name: b\n  data_files: b.jsonl\n", ["a.jsonl", "b.jsonl"], None),
    ("license: mit\n", "configs:\n- config_name: b\n  data_files: b.jsonl\n", ["a.jsonl", "b.jsonl"], None),
    ("configs:\n- config_name: a\n  data_files: a.jsonl\n- config_name: b\n  default: yes\n  data_files: b.jsonl\n", None, ["a.jsonl", "b.jsonl"], None),
    ("configs:\n- config_name: default\n  data_files: a.jsonl\n- config_name: b\n  default: true\n  data_files: b.jsonl\n", None, ["a.jsonl", "b.jsonl"], None),
    ("configs:\n- config_name: a\n  data_files: a.jsonl\n- config_name: b\n  data_files: b.jsonl\n", None, ["a.jsonl", "b.jsonl"], None),
    ("configs:\n- data_files: a.jsonl\n", None, ["a.jsonl"], None),
    ("configs:\n  config_name: a\n", None, ["a.jsonl"], None),
    ("configs: []\n", None, ["train.jsonl", "test.jsonl"], None),
    ("configs:\n- config_name: a\n  data_files:\n  - split: train\n    path: a.jsonl\n    more: x\n", None, ["a.jsonl"], None),
    ("configs:\n- config_name: a\n  data_files:\n  - split: train\n    path: a.jsonl\n  - split: train\n    path: b.jsonl\n", None, ["a.jsonl", "b.jsonl"], None),
    ("configs:\n- config_name: a\n  data_files: 7\n", None, ["a.jsonl"], None),
    ("configs:\n- config_name: a\n  data_files: [a.jsonl, b.jsonl]\n", None, ["a.jsonl", "b.jsonl"], None),
    ("configs:\n- config_name: a\n  data_files: gone.jsonl\n", None, ["a.jsonl"], None),
    ("configs:\n- config_name: a\n  data_files: [gone-*.jsonl, a.jsonl]\n", None, ["a.jsonl"], None),
    ("tags: [unclosed\nconfigs:\n- config_name: a\n", None, ["a.jsonl"], None),
    ("a: b: c\n", None, ["a.jsonl"], None),
    ("just a text\n", None, ["a.jsonl"], None),
    ("\n", None, ["train.jsonl", "test.jsonl"], None),
]


def make_cards():
    cases = []
    for card, standalone, names, wanted in CARDS:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder).resolve()
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text('{"text":"x"}\n')
            (folder / "README.md").write_text(f"---\n{card}---\n# Title\n")
            if standalone is not None:
                (folder / ".huggingface.yaml").write_text(standalone)
            case = {"card": card, "standalone": standalone, "names": names, "wanted": wanted}
            try:
                builder = load_dataset_builder(str(folder), name=wanted)
                case["splits"] = {str(split): [os.path.relpath(file, folder) for file in files] for split, files in builder.config.data_files.items()}
            except Exception as error:
                case["error"] = type(error).__name__
            cases.append(case)
    write("cards.json", cases)


def write(name, cases):
    """One case a line."""
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    (HERE / name).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    make_readers()
    make_cards()
