"""Makes options.json from transformers 5.17.0 and TRL 1.16.0: `python make_options.py`.

Every field of the classes that TRL's script for supervised fine-tuning reads its command line and
its configuration file into, with the field's default as JSON.
"""

import dataclasses
import enum
import json
import pathlib

import transformers
import trl

HERE = pathlib.Path(__file__).parent
assert transformers.__version__ == "5.17.0", transformers.__version__
assert trl.__version__ == "1.16.0", trl.__version__

# The first class that has a field owns it: SFTConfig has all of TrainingArguments.
CLASSES = [transformers.TrainingArguments, trl.SFTConfig, trl.ModelConfig, trl.ScriptArguments]


def default(field):
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        value = None if field.default is dataclasses.MISSING else field.default
    return value.value if isinstance(value, enum.Enum) else value


classes = {}
for of in CLASSES:
    fields = [field for field in dataclasses.fields(of) if field.init]
    classes[of.__name__] = {field.name: default(field) for field in fields}
known = classes["TrainingArguments"]
sft = classes["SFTConfig"]
assert set(known) <= set(sft)
# Of SFTConfig, what it adds and what it changes.
classes["SFTConfig"] = {name: value for name, value in sft.items() if name not in known or known[name] != value}
(HERE / "options.json").write_text(json.dumps(classes, indent=1) + "\n")
print({name: len(fields) for name, fields in classes.items()}, len(set().union(*classes.values())))
