"""unpack.py WHEEL FOLDER: copies headers and CPU libraries of a wheel to FOLDER/include and FOLDER/lib."""
import os, re, shutil, sys, zipfile

# libtorch.so refers to the CUDA library, and programs must not link to that. The others are for Python or CUDA.
LEFT_OUT = re.compile(r"lib(torch|torch_cuda.*|c10_cuda|caffe2_nvrtc|torch_nvshmem|torch_python|torch_global_deps|shm)\.so")
NVIDIA = {"libcudart.so.13", "libcupti.so.13"}

wheel, folder = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for member in archive.infolist():
        top, _, rest = member.filename.partition("/")
        if member.is_dir():
            continue
        if top == "torch" and rest.startswith("include/"):
            place = rest
        elif top == "torch" and re.fullmatch(r"lib/[^/]+\.so(\.\d+)*", rest) and not LEFT_OUT.fullmatch(rest[4:]):
            place = rest
        elif top == "nvidia" and os.path.basename(rest) in NVIDIA:
            place = "lib/" + os.path.basename(rest)
        else:
            continue
        target = os.path.join(folder, place)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with archive.open(member) as source, open(target, "wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
