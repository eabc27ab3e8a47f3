"""Deltas applied to the tensors of a model."""

import pytest
import torch
from transformers import AutoModelForCausalLM

import residua


@pytest.fixture
def tuned(folder, tmp_path):
    """The model after a little training, and the delta to it."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[3, :5] += 1
        model.model.norm.weight.neg_()
    model.save_pretrained(tmp_path / "tuned")
    residua.diff(folder, tmp_path / "tuned", tmp_path / "delta.safetensors")
    return model, tmp_path / "delta.safetensors"


def test_a_live_model_becomes_the_tuned_one(folder, tuned, tokens):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    residua.apply_delta(model.state_dict(), tuned[1])
    for name, tensor in tuned[0].state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert torch.equal(model(tokens).logits, tuned[0](tokens).logits)


def test_another_model_is_refused_and_stays_as_it_was(folder, tuned):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        model.model.norm.weight[0] += 1
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(residua.InputError, match="model.norm.weight"):
        residua.apply_delta(model.state_dict(), tuned[1])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
