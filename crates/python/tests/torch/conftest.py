"""A tiny random model, and the same model split."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import residua
import residua.transformers


def pytest_configure(config):
    config.addinivalue_line("markers", "smollm2: a real language model; minutes, and a package to download")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A model as transformers saves it: biases, tied embeddings, a tokenizer's file."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=True,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    path = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(path)
    (path / "tokenizer_config.json").write_text("{}")
    (path / "pytorch_model.bin").write_text("old weights")
    return path


@pytest.fixture(scope="session")
def split(folder):
    """The same, split."""
    out = folder.with_name("tiny-split")
    residua.split(folder, out, density=0.1)
    return out


@pytest.fixture(scope="session")
def dense(folder, split):
    """Loads the split model materialised at an alpha: an ordinary model of transformers."""

    def load(alpha, dtype=torch.float32):
        path = folder.with_name(f"tiny-dense-{alpha:g}")
        if not path.exists():
            path.mkdir()
            shutil.copyfile(folder / "config.json", path / "config.json")
            residua.materialize(split / "model.safetensors", path / "model.safetensors", alpha=alpha)
        return AutoModelForCausalLM.from_pretrained(path, dtype=dtype)

    return load


@pytest.fixture
def model(split):
    return AutoModelForCausalLM.from_pretrained(split, dtype=torch.float32)


@pytest.fixture
def tokens():
    return torch.randint(2, 97, (2, 9), generator=torch.Generator().manual_seed(3))


def left_behind(path: Path):
    """Unfinished files."""
    return [each.name for each in path.iterdir() if each.name.startswith(".residua")]
