"""SmolLM2-135M as a folder of bf16 weights, its texts, its perplexity and the second moments of its layers' inputs.

The weights come from blocks of Q4_1, so any grid with groups of 32 columns fits them exactly and would prove nothing.
Columns are therefore rescaled first, in ways that leave the function as it is: weights of norms are folded into the next
layers, and random factors from 0.8 to 1.25 move between `v` and `o` and between `up` and `down`.
"""

import math
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT = 512
SEED = 7
FORTUNES = Path("/usr/share/games/fortunes")
# Topics that are calibrated on are not tested on.
CALIBRATION = ["computers", "definitions", "people", "wisdom", "work", "law", "food"]
TEST = ["science", "literature", "politics", "songs-poems", "startrek"]


def prepare(source: Path, folder: Path) -> None:
    """Writes the rescaled model to `folder`."""
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = LlamaForCausalLM(config).float().eval()
    model.load_state_dict(read.state_dict())
    tokens = tokenizer("A quick brown fox jumps over the lazy dog.", return_tensors="pt").input_ids
    with torch.no_grad():
        before = model(tokens).logits
        rescale(model)
        after = model(tokens).logits
    if (before - after).abs().max() > 1e-3 * before.abs().max():
        raise SystemExit("rescaling changed the model")
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def rescale(model) -> None:
    generator = torch.Generator().manual_seed(SEED)

    def factors(size):
        return 0.8 + 0.45 * torch.rand(size, generator=generator)

    heads, groups = model.config.num_attention_heads, model.config.num_key_value_heads
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for norm, linears in (
            (layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
            (layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj)),
        ):
            for linear in linears:
                linear.weight.mul_(norm.weight[None])
            norm.weight.fill_(1)
        value = factors(attention.v_proj.weight.shape[0])
        attention.v_proj.weight.mul_(value[:, None])
        # Several query heads read one value head.
        shared = value.view(groups, 1, -1).expand(groups, heads // groups, -1).reshape(-1)
        attention.o_proj.weight.div_(shared[None])
        up = factors(mlp.up_proj.weight.shape[0])
        mlp.up_proj.weight.mul_(up[:, None])
        mlp.down_proj.weight.div_(up[None])


class Model:
    """The model in f32, and what is measured on it."""

    def __init__(self, folder: Path):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.weights = {
            name: weight.clone() for name, weight in self.model.state_dict().items() if name.endswith("_proj.weight")
        }
        self.modules = dict(self.model.named_modules())

    def tokens(self, topics, count):
        text = "".join((FORTUNES / topic).read_text(encoding="utf8", errors="ignore") for topic in topics)
        tokens = self.tokenizer(text, return_tensors="pt").input_ids[0]
        if len(tokens) < count:
            raise SystemExit(f"{len(tokens)} tokens of text where {count} are needed")
        return tokens[:count]

    @torch.inference_mode()
    def second_moments(self, tokens):
        """XᵀX / n of the inputs of every linear layer. Layers that read the same input share theirs."""
        moments, hooks, seen = {}, [], 0

        def hook(name):
            def add(_, inputs, __):
                x = inputs[0].reshape(-1, inputs[0].shape[-1])
                moments[name] = moments.get(name, 0) + x.T @ x

            return add

        def leader(name):
            return name.replace("k_proj", "q_proj").replace("v_proj", "q_proj").replace("up_proj", "gate_proj")

        for name in {leader(name) for name in self.weights}:
            hooks.append(self.modules[name.removesuffix(".weight")].register_forward_hook(hook(name)))
        for start in range(0, len(tokens) - CONTEXT + 1, CONTEXT):
            self.model(tokens[start : start + CONTEXT][None])
            seen += CONTEXT
        for handle in hooks:
            handle.remove()
        return {name: moments[leader(name)] / seen for name in self.weights}

    @torch.inference_mode()
    def perplexity(self, tokens) -> float:
        total = count = 0
        for start in range(0, len(tokens) - CONTEXT + 1, CONTEXT):
            x = tokens[start : start + CONTEXT][None]
            logits = self.model(x).logits[0, :-1].float()
            total += torch.nn.functional.cross_entropy(logits, x[0, 1:], reduction="sum").item()
            count += CONTEXT - 1
        return math.exp(total / count)

    def set(self, weights) -> None:
        self.model.load_state_dict(weights, strict=False)


def errors(weights, new, moments):
    """Relative weight error and output error over all layers together, the latter by √(Σ tr(EHEᵀ) / Σ tr(WHWᵀ))."""
    squares = dict.fromkeys(("weight", "weights", "output", "outputs"), 0.0)
    for name, weight in weights.items():
        error, h = weight - new[name], moments[name]
        squares["weight"] += error.square().sum().item()
        squares["weights"] += weight.square().sum().item()
        # A layer counts by its relative error, whatever the size of its outputs.
        outputs = ((weight @ h) * weight).sum().item()
        squares["output"] += ((error @ h) * error).sum().item() / outputs
        squares["outputs"] += 1
    return math.sqrt(squares["weight"] / squares["weights"]), math.sqrt(squares["output"] / squares["outputs"])
