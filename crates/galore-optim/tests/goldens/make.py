"""Makes the goldens of this folder: what galore-torch, torch.optim and transformers really do.

    pip install torch==2.11.0 transformers==5.17.0 galore-torch==1.0 safetensors==0.8.0
    python make.py

galore-torch 1.0's metadata asks for bitsandbytes, which its __init__ imports; any version does, nothing here uses it.
"""

import json
import os
import re
import warnings

import torch
from galore_torch import GaLoreAdamW
from safetensors.torch import save_file
from torch import nn

warnings.filterwarnings("ignore")
here = os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)
assert torch.__version__.startswith("2.11.0"), torch.__version__

STEPS = 7
SHAPES = {"tall": (12, 7), "wide": (7, 12), "square": (8, 8)}


def learning_rate(step):
    """Warm-up from zero, so that the first step moves nothing, as in the documented run."""
    return 0.01 * step / 3 if step < 3 else 0.01


def gradients(shape, generator):
    """One direction that stays plus noise: moments build up, and singular values are apart."""
    base = torch.randn(shape, generator=generator)
    return [0.1 * (base + torch.randn(shape, generator=generator)) for _ in range(STEPS)]


def run(optimizer_of, weight, grads):
    """Weights after each step, stacked."""
    parameter = nn.Parameter(weight.clone())
    optimizer = optimizer_of(parameter)
    after = []
    for step, grad in enumerate(grads):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        parameter.grad = grad.clone()
        optimizer.step()
        after.append(parameter.detach().clone())
    state = optimizer.state[parameter]
    return torch.stack(after), state["exp_avg"].clone(), state["exp_avg_sq"].clone()


def galore(tensors):
    generator = torch.Generator().manual_seed(0)
    for shape_name, shape in SHAPES.items():
        weight = torch.randn(shape, generator=generator) * 0.02
        grads = gradients(shape, generator)
        tensors[f"{shape_name}.weight"] = weight
        tensors[f"{shape_name}.gradients"] = torch.stack(grads)
        for proj_type in ["std", "reverse_std", "right", "left", "full"]:
            for rank in [3, min(shape), 64]:
                used = proj_type
                if proj_type == "reverse_std" and shape[0] < shape[1] and rank >= min(shape):
                    # galore-torch crashes here: it takes the wrong side on the way back. `right` is what it means.
                    used = "right"
                for weight_decay in [0.0, 0.1] if rank == 3 else [0.0]:
                    def make(parameter):
                        target = dict(params=[parameter], rank=rank, update_proj_gap=3, scale=1.8, proj_type=used)
                        return GaLoreAdamW([target], weight_decay=weight_decay, no_deprecation_warning=True)

                    after, first, second = run(make, weight, grads)
                    case = f"{shape_name}.{proj_type}.rank{rank}.decay{weight_decay}"
                    tensors[f"{case}.after"] = after
                    tensors[f"{case}.exp_avg"] = first
                    tensors[f"{case}.exp_avg_sq"] = second


def plain(tensors):
    """Unprojected parameters: galore-torch's own AdamW, and torch's."""
    generator = torch.Generator().manual_seed(1)
    for shape_name, shape in {"vector": (19,), "matrix": (5, 6), "cube": (2, 3, 4)}.items():
        weight = torch.randn(shape, generator=generator) * 0.02
        grads = gradients(shape, generator)
        tensors[f"{shape_name}.weight"] = weight
        tensors[f"{shape_name}.gradients"] = torch.stack(grads)
        for weight_decay in [0.0, 0.1]:
            formulas = {
                "galore": lambda p: GaLoreAdamW([p], weight_decay=weight_decay, no_deprecation_warning=True),
                "torch": lambda p: torch.optim.AdamW([p], eps=1e-8, weight_decay=weight_decay, foreach=False),
            }
            for formula, make in formulas.items():
                after, first, second = run(make, weight, grads)
                case = f"{shape_name}.{formula}.decay{weight_decay}"
                tensors[f"{case}.after"] = after
                tensors[f"{case}.exp_avg"] = first
                tensors[f"{case}.exp_avg_sq"] = second


def clipping(tensors):
    generator = torch.Generator().manual_seed(2)
    grads = [torch.randn(shape, generator=generator) for shape in [(5, 6), (19,), (2, 3, 4)]]
    for index, grad in enumerate(grads):
        tensors[f"clip.{index}.before"] = grad
    for name, max_norm in {"tight": 1.0, "loose": 100.0}.items():
        parameters = [nn.Parameter(torch.zeros_like(grad)) for grad in grads]
        for parameter, grad in zip(parameters, grads):
            parameter.grad = grad.clone()
        tensors[f"clip.{name}.norm"] = nn.utils.clip_grad_norm_(parameters, max_norm, foreach=False)
        for index, parameter in enumerate(parameters):
            tensors[f"clip.{index}.{name}"] = parameter.grad


def targets():
    """What transformers hands to galore-torch as targets, for a tied and an untied head."""
    from transformers import Qwen2Config, Qwen2ForCausalLM, TrainingArguments
    from transformers.trainer_optimizer import _setup_low_rank_optimizer

    patterns = [
        ["attn", "mlp"],
        ["q_proj", "v_proj"],
        ["model.layers.1.mlp.down_proj"],
        [r".*\.[01]\.self_attn\.[qk]_proj"],
        ["norm", "up_proj"],
        ["layers.0", r"model\.layers\.1\..*gate.*"],
        "all-linear",
        "all_linear",
        "attn",
        r".*attn.*",
        r"model\.layers\.\d+\.mlp\.(up|gate)_proj",
        r"(?!.*(lm_head|mlp)).*",
        "lm_head",
        "lm_head|model.layers.0.mlp.up_proj",
        ["head"],
        ["nothing"],
    ]
    heads = []
    for tied in [True, False]:
        config = Qwen2Config(
            vocab_size=16, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, tie_word_embeddings=tied,
        )
        model = Qwen2ForCausalLM(config)
        own = {name for name, _ in model.named_parameters()}
        linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and n + ".weight" in own]
        cases = []
        by_id = {id(p): n for n, p in model.named_parameters()}
        for pattern in patterns:
            args = TrainingArguments(output_dir="unused", optim_target_modules=pattern, use_cpu=True)
            try:
                _, kwargs = _setup_low_rank_optimizer(
                    args, model, "galore_adamw", {"galore_adamw": GaLoreAdamW}, {"rank": 1}, {}
                )
                found = [by_id[id(p)].removesuffix(".weight") for p in kwargs["params"][1]["params"]]
            except ValueError:
                found = []
            cases.append({"patterns": pattern, "targets": found})
        heads.append({"tied": tied, "linear_modules": linear, "cases": cases})
    return heads


tensors = {}
galore(tensors)
save_file(tensors, os.path.join(here, "galore.safetensors"))
tensors = {}
plain(tensors)
clipping(tensors)
save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, os.path.join(here, "adamw.safetensors"))
text = json.dumps(targets(), indent=1)
# One case a line or two: lists without lists inside go on one line.
text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + " ".join(m.group(1).split()) + "]", text)
with open(os.path.join(here, "targets.json"), "w") as file:
    file.write(text + "\n")
