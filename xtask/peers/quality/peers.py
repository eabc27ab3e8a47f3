"""Quantisers that people use today. Each takes a weight [out, in] and second moments [in, in] of its inputs, and returns
the new weight and its bits per weight.

ggml's are ggml's own code, called through the library of the package `xllamacpp`. GPTQ and NF4 follow their papers.
"""

import ctypes
import glob
import sysconfig

import gguf
import numpy
import torch

NF4 = torch.tensor(
    [-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
     0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0]
)


def integers(bits, group=None, scale_bits=16):
    """Symmetric codes, one scale a group (a row without `group`), set by the largest magnitude."""

    def run(weight, _):
        x = weight.view(weight.shape[0], -1, group or weight.shape[1])
        largest = 2 ** (bits - 1) - 1
        scale = (x.abs().amax(-1, keepdim=True) / largest).clamp(min=1e-12).half().float()
        return ((x / scale).round().clamp(-largest - 1, largest) * scale).view_as(weight), bits + scale_bits / x.shape[2]

    return run


def nf4(group=64):
    """NF4 with one f16 scale a group (QLoRA, 2023)."""

    def run(weight, _):
        x = weight.reshape(-1, group)
        scale = x.abs().amax(1, keepdim=True).clamp(min=1e-12).half().float()
        bounds = (NF4[1:] + NF4[:-1]) / 2
        return (NF4[torch.bucketize(x / scale, bounds)] * scale).view_as(weight), 4 + 16 / group

    return run


class Ggml:
    """`ggml_quantize_chunk` of llama.cpp."""

    def __init__(self):
        found = glob.glob(sysconfig.get_paths()["purelib"] + "/xllamacpp/*.so")
        self.function = ctypes.CDLL(found[0]).ggml_quantize_chunk
        self.function.restype = ctypes.c_size_t
        pointer, size = ctypes.c_void_p, ctypes.c_int64
        self.function.argtypes = [ctypes.c_int, pointer, pointer, size, size, size, pointer]

    def kind(self, name, importance):
        """Blocks run over the flattened weight, so rows that are no multiple of 256 keep the kind that was asked for.
        llama.cpp itself would fall back to a kind of more bytes."""
        kind = gguf.GGMLQuantizationType[name]
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]

        def run(weight, moments):
            rows, cols = weight.shape
            joined = 1
            while cols * joined % block:
                joined *= 2
            x = numpy.ascontiguousarray(weight.numpy().reshape(rows // joined, cols * joined))
            out = numpy.zeros(x.size // block * block_bytes, dtype=numpy.uint8)
            matrix = None
            if importance:
                matrix = numpy.ascontiguousarray(numpy.tile(moments.diagonal().numpy(), joined).astype(numpy.float32))
            self.function(
                kind.value, x.ctypes.data, out.ctypes.data, 0, x.shape[0], x.shape[1],
                None if matrix is None else matrix.ctypes.data,
            )
            new = gguf.quants.dequantize(out, kind)
            return torch.from_numpy(new.reshape(rows, cols).astype(numpy.float32)), block_bytes * 8 / block

        return run


def gptq(bits, group=None, zero=False, damp=0.01, order=True):
    """Error feedback column by column (Frantar et al. 2022), columns in the order of H's diagonal, scales of groups in
    the columns' own order (`static groups`)."""

    def run(weight, moments):
        w, n = weight.clone(), weight.shape[1]
        size = group or n
        x = w.view(w.shape[0], -1, size)
        if zero:
            low, high = x.amin(-1).clamp(max=0), x.amax(-1).clamp(min=0)
            scale = ((high - low) / (2**bits - 1)).clamp(min=1e-12).half().float()
            start, least, most = (-low / scale).round(), 0, 2**bits - 1
        else:
            most = 2 ** (bits - 1) - 1
            scale = (x.abs().amax(-1) / most).clamp(min=1e-12).half().float()
            start, least = torch.zeros_like(scale), -most - 1
        h = moments.double() + torch.eye(n, dtype=torch.float64) * damp * moments.diagonal().mean()
        perm = torch.argsort(h.diagonal(), descending=True) if order else torch.arange(n)
        u = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h[perm][:, perm])), upper=True).float()
        w, out = w[:, perm].contiguous(), torch.empty_like(w)
        for first in range(0, n, 128):
            last = min(first + 128, n)
            block, errors = w[:, first:last].clone(), torch.zeros(w.shape[0], last - first)
            for i in range(last - first):
                g = perm[first + i] // size
                s, z = scale[:, g], start[:, g]
                q = (((block[:, i] / s).round() + z).clamp(least, most) - z) * s
                out[:, first + i] = q
                errors[:, i] = (block[:, i] - q) / u[first + i, first + i]
                block[:, i:] -= errors[:, i : i + 1] * u[first + i, first + i : last][None]
            w[:, last:] -= errors @ u[first:last, last:]
        new = torch.empty_like(out)
        new[:, perm] = out
        return new, bits + (16 + bits * zero) / size

    return run


def data_free():
    """What needs weights only: (title, quantiser)."""
    ggml = Ggml()
    kinds = ["Q4_0", "IQ4_XS", "Q4_K", "Q5_K"]
    return (
        [(f"ggml {kind}", ggml.kind(kind, importance=False)) for kind in kinds]
        + [("NF4, groups of 64", nf4()), ("int4, groups of 64", integers(4, 64)), ("int5, a scale per row", integers(5))]
    )


def calibrated():
    """What also needs calibration inputs: (title, quantiser)."""
    ggml = Ggml()
    kinds = ["IQ4_XS", "Q4_K", "Q5_K"]
    return (
        [(f"ggml {kind}, importance matrix", ggml.kind(kind, importance=True)) for kind in kinds]
        + [(f"GPTQ {bits} bits, groups of 64, zero points", gptq(bits, 64, zero=True)) for bits in (4, 5)]
    )
