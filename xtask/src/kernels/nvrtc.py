"""Compiles CUDA C++ to PTX with NVRTC. Needs neither a GPU nor a toolkit.

nvrtc.py SOURCE OUTPUT [OPTION…]: writes PTX to OUTPUT and messages of the compiler to stderr.
"""

import ctypes
import glob
import os
import sys

import nvidia.cuda_nvrtc as wheel


def library():
    folder = os.path.join(list(wheel.__path__)[0], "lib")
    # NVRTC opens its builtins by name. It finds them if they are loaded.
    for path in sorted(glob.glob(os.path.join(folder, "libnvrtc-builtins.so*"))):
        ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(glob.glob(os.path.join(folder, "libnvrtc.so*"))[0])


def text(nvrtc, program, what):
    size = ctypes.c_size_t()
    getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{what}")(program, buffer)
    return buffer.value


def main(source, output, *options):
    nvrtc = library()
    program = ctypes.c_void_p()
    with open(source, "rb") as file:
        code = file.read()
    name = os.path.basename(source).encode()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), code, name, 0, None, None)
    options = [option.encode() for option in options]
    status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    log = text(nvrtc, program, "ProgramLog").decode().strip()
    if log:
        print(log, file=sys.stderr)
    if status != 0:
        sys.exit(f"{source}: NVRTC error {status}")
    with open(output, "wb") as file:
        file.write(text(nvrtc, program, "PTX"))


if __name__ == "__main__":
    main(*sys.argv[1:])
