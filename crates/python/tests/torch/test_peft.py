"""``residua.peft``: LoRA on a split model."""

import pytest
import torch
from transformers import AutoModelForCausalLM

import residua
from residua.torch import alpha

peft = pytest.importorskip("peft")
from residua.peft import LoraResidualLinear, lora_config  # noqa: E402

OPTIONS = dict(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"], init_lora_weights=True)


@pytest.fixture
def adapted(model):
    torch.manual_seed(7)
    return peft.get_peft_model(model, lora_config(**OPTIONS))


def train(model, tokens, steps):
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = model(input_ids=tokens, labels=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_only_the_adapters_learn(adapted, model, tokens):
    before = model(tokens).logits
    assert isinstance(adapted.base_model.model.model.layers[0].mlp.up_proj, LoraResidualLinear)
    learned = {name for name, each in adapted.named_parameters() if each.requires_grad}
    assert learned and all(".lora_" in name for name in learned)
    losses = train(adapted, tokens, 60)
    assert losses[-1] < 0.7 * losses[0], losses
    # The first layer learns too: gradients went through all split layers above it.
    assert adapted.base_model.model.model.layers[0].self_attn.q_proj.lora_B["default"].weight.abs().sum() > 0
    with adapted.disable_adapter():
        torch.testing.assert_close(adapted(tokens).logits, before, rtol=0, atol=0)
    with alpha(adapted, 0.0):
        assert not torch.allclose(adapted(tokens).logits, before)


def test_gradients_are_those_of_the_dense_model(split, dense, tokens):
    gradients = []
    for model in (AutoModelForCausalLM.from_pretrained(split, dtype=torch.float32), dense(1.0)):
        torch.manual_seed(7)
        adapted = peft.get_peft_model(model, lora_config(**{**OPTIONS, "init_lora_weights": False}))
        adapted(input_ids=tokens, labels=tokens).loss.backward()
        gradients.append({name: each.grad for name, each in adapted.named_parameters() if each.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) == 8
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-5)


def test_adapters_are_saved_and_loaded(adapted, split, tokens, tmp_path):
    train(adapted, tokens, 2)
    adapted.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(split, dtype=torch.float32)
    again = peft.PeftModel.from_pretrained(again, tmp_path, config=lora_config(**OPTIONS))
    torch.testing.assert_close(again(tokens).logits, adapted.eval()(tokens).logits, rtol=0, atol=0)


def test_merging_is_refused(adapted):
    with pytest.raises(residua.UsageError, match="cannot be merged"):
        adapted.merge_and_unload()


def test_variants_are_refused(model):
    with pytest.raises(ValueError, match="use_dora"):
        peft.get_peft_model(model, lora_config(**OPTIONS, use_dora=True))
