#!/usr/bin/env python3
"""Prints what the device did in one training step, from the file that profile_step.c wrote.

    profile_step.py FILE.csv [--kernels 30]

A step goes from the first RMSNorm after an optimizer step to the next such. Means over the steps of the second half; steps with an
evaluation, a refresh or a checkpoint within, told by their length, are left out.
"""
import argparse, collections, csv, re, shutil, statistics, subprocess, sys

CLASSES = [  # the first that fits
    ("attention backward", r"flash_bwd|bprop|fmha.*backward|attention_kernel_backward|dot_do_o|convert_dq|bwd_preprocess"),
    ("attention forward", r"flash_fwd|fprop|fmha|attention"),
    ("kernel: RMSNorm", r"^rms_norm_"),
    ("kernel: RoPE", r"^rope"),
    ("kernel: SwiGLU", r"^swiglu_"),
    ("kernel: cross-entropy", r"^cross_entropy$"),
    ("kernel: Adam", r"^adam_"),
    ("kernel: weights", r"^((read|write)_master|add_to_stack)"),
    ("matrix products", r"gemm|nvjet|cutlass|xmma|splitk|cublas"),
    ("embedding", r"embedding|index|gather|scatter|radix|sort|unique"),
    ("reductions", r"reduce|norm|multi_tensor|column_sum"),
    ("fills", r"^fill$|FillFunctor"),
    ("copies", r"^copy|copy_kernel|CatArray"),
    ("elementwise", r"elementwise|foreach"),
]


LONG_NS = 50_000


def class_of(name):
    return next((label for label, pattern in CLASSES if re.search(pattern, name, re.IGNORECASE)), "other")


def read(path):
    device, waits = [], []
    with open(path) as file:
        for kind, start, end, _, name in csv.reader(file):
            (waits if kind == "wait" else device).append((int(start), int(end), name))
    return sorted(device), sorted(waits)


def readable(names):
    if not shutil.which("c++filt"):
        return {name: name for name in names}
    plain = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout.splitlines()
    return {name: re.sub(r"at::native::|\(anonymous namespace\)::|^void ", "", text) for name, text in zip(names, plain)}


def steps_of(device):
    begins, after_update = [], False
    for index, (_, _, name) in enumerate(device):
        if name == "adam_full":
            after_update = True
        elif name == "rms_norm_forward" and after_update:
            begins.append(index)
            after_update = False
    spans = list(zip(begins, begins[1:]))
    spans = spans[len(spans) // 2 :]
    length = lambda span: device[span[1]][0] - device[span[0]][0]
    usual = statistics.median(map(length, spans)) if spans else 0
    return [span for span in spans if length(span) < 1.3 * usual]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--kernels", type=int, default=30, help="how many kernels to list, longest first")
    options = parser.parse_args()
    device, waits = read(options.file)
    spans = steps_of(device)
    if not spans:
        sys.exit(f"{options.file}: no two steps in it; a step is told by the kernels rms_norm_forward and adam_full")
    classes, kernels = collections.defaultdict(lambda: [0, 0]), collections.defaultdict(lambda: [0, 0])
    span_ns = busy_ns = 0
    gaps = []
    waited = collections.defaultdict(lambda: [0, 0])
    for first, last in spans:
        events = device[first:last]
        begin, end = events[0][0], device[last][0]
        span_ns += end - begin
        backward_ends = max((i for i, event in enumerate(events) if event[2] == "rms_norm_backward"), default=len(events))
        until, before = begin, "-"
        for index, (start, stop, name) in enumerate(events):
            label = class_of(name)
            if label == "matrix products":
                label += ": optimizer" if index > backward_ends else ": model"
            for table, key in ((classes, label), (kernels, name)):
                table[key][0] += 1
                table[key][1] += stop - start
            if start > until:
                gaps.append((start - until, before, name))
            busy_ns += max(0, stop - max(start, until))
            if stop > until:
                until, before = stop, name
        for start, stop, name in waits:
            if begin <= start < end:
                waited[name][0] += 1
                waited[name][1] += stop - start
    n = len(spans)
    launches = sum(count for count, _ in classes.values())
    print(f"{n} steps of {span_ns / n / 1e6:.2f} ms; device busy {busy_ns / n / 1e6:.2f} ms, idle {(span_ns - busy_ns) / n / 1e6:.2f} ms; {launches / n:.0f} operations")
    print("\n| what | launches | ms | share |\n|---|---|---|---|")
    for label, (count, ns) in sorted(classes.items(), key=lambda item: -item[1][1]):
        print(f"| {label} | {count / n:.0f} | {ns / n / 1e6:.2f} | {100 * ns / span_ns:.1f} % |")
    for label, (count, ns) in waited.items():
        print(f"| host waits: {label} | {count / n:.1f} | {ns / n / 1e6:.2f} | |")
    edges = [0, 1, 2, 5, 10, 50, 1e9]  # us
    print("\ngaps of the device, by length: " + ", ".join(
        f"{low:g} to {high:g} us: {sum(low * 1e3 <= g[0] < high * 1e3 for g in gaps) / n:.0f} ({sum(g[0] for g in gaps if low * 1e3 <= g[0] < high * 1e3) / n / 1e6:.2f} ms)"
        for low, high in zip(edges, edges[1:])))
    plain = readable(sorted(kernels))
    short = lambda name: plain.get(name, name)[:110]
    long = collections.defaultdict(lambda: [0, 0])
    for gap, _, name in gaps:
        if gap >= LONG_NS:
            long[class_of(name)][0] += 1
            long[class_of(name)][1] += gap
    print(f"of {LONG_NS // 1000} us and more, by what follows: " + ", ".join(
        f"{label} {count / n:.1f} ({ns / n / 1e6:.2f} ms)" for label, (count, ns) in sorted(long.items(), key=lambda item: -item[1][1])))
    print("\n| kernel | launches | ms | us each |\n|---|---|---|---|")
    for name, (count, ns) in sorted(kernels.items(), key=lambda item: -item[1][1])[: options.kernels]:
        print(f"| `{short(name)}` | {count / n:.1f} | {ns / n / 1e6:.3f} | {ns / count / 1e3:.1f} |")


if __name__ == "__main__":
    main()
