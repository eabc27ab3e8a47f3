"""``residua.calibrate``: moments of the inputs of linear layers."""

import numpy as np
import pytest
import torch
from conftest import left_behind
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

import residua

UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def original(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(11)
    batches = [{"input_ids": torch.randint(2, 97, (2, 12), generator=generator)} for _ in range(3)]
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 7:] = 0
    batches[1]["attention_mask"] = mask
    return batches


def inputs(model, batches, name):
    """What the layer reads, in f64."""
    seen = []
    layer = model.get_submodule(name.removesuffix(".weight"))
    handle = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        for batch in batches:
            model(**batch)
            shown = batch.get("attention_mask", torch.ones(2, 12)).bool()
            seen[-1] = seen[-1][shown]
    handle.remove()
    return torch.cat(seen).double().numpy()


@pytest.mark.parametrize("name", [UP, UP.replace("up", "gate"), UP.replace("up", "down"), "model.layers.0.self_attn.v_proj.weight"])
def test_second_moments_are_those_of_numpy(original, batches, tmp_path, name):
    residua.calibrate(original, batches, tmp_path / "c.safetensors")
    x = inputs(original, batches, name)
    found = load_file(tmp_path / "c.safetensors")[name]
    assert found.dtype == np.float32 and found.shape == (1, x.shape[1], x.shape[1])
    np.testing.assert_allclose(found[0], x.T @ x / len(x), rtol=1e-4, atol=1e-5)


def test_mean_squares_are_those_of_numpy(original, batches, tmp_path):
    residua.calibrate(original, batches, tmp_path / "c.safetensors", second_moments=False)
    found = load_file(tmp_path / "c.safetensors")
    assert set(found) == {f"{name}.weight" for name, m in original.named_modules() if isinstance(m, torch.nn.Linear)}
    np.testing.assert_allclose(found[UP], (inputs(original, batches, UP) ** 2).mean(0), rtol=1e-5)


def test_blocks_are_the_diagonal_of_the_whole(tmp_path):
    model = torch.nn.Linear(300, 4)
    x = torch.randn(50, 300, generator=torch.Generator().manual_seed(2))
    for block in (None, 128):
        residua.calibrate(torch.nn.Sequential(model), [x], tmp_path / f"{block}.safetensors", block=block)
    whole = load_file(tmp_path / "None.safetensors")["0.weight"][0]
    blocks = load_file(tmp_path / "128.safetensors")["0.weight"]
    assert blocks.shape == (3, 128, 128)
    for number in range(3):
        part = whole[number * 128 : (number + 1) * 128, number * 128 : (number + 1) * 128]
        np.testing.assert_allclose(blocks[number, : len(part), : len(part)], part, rtol=1e-5, atol=1e-6)


def test_several_passes_give_the_same_file(original, batches, tmp_path):
    residua.calibrate(original, batches, tmp_path / "one.safetensors")
    calls = []
    original.register_forward_pre_hook(lambda *_: calls.append(1))
    residua.calibrate(original, batches, tmp_path / "many.safetensors", memory_budget=4 * 96 * 96)
    assert len(calls) > 2 * len(batches) + 1
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "many.safetensors").read_bytes()


def test_budgets_and_iterators(original, batches, tmp_path):
    out = tmp_path / "c.safetensors"
    with pytest.raises(residua.BudgetError, match=f"take {4 * 96 * 96} bytes"):
        residua.calibrate(original, batches, out, memory_budget=4 * 96 * 96 - 1)
    with pytest.raises(residua.UsageError, match="pass a list"):
        residua.calibrate(original, iter(batches), out, memory_budget="40KiB")
    residua.calibrate(original, iter(batches), out)
    found = load_file(out)[UP]
    residua.calibrate(original, batches, out)
    np.testing.assert_array_equal(found, load_file(out)[UP])


def test_bad_input_leaves_nothing_behind(original, batches, tmp_path):
    out = tmp_path / "c.safetensors"
    with pytest.raises(residua.UsageError, match="no batches"):
        residua.calibrate(original, [], out)
    with pytest.raises(residua.UsageError, match="no nn.Linear"):
        residua.calibrate(torch.nn.ReLU(), batches, out)
    with pytest.raises(residua.UsageError, match="multiple of 128"):
        residua.calibrate(original, batches, out, block=100)
    linear = torch.nn.Sequential(torch.nn.Linear(4, 4))
    with pytest.raises(residua.InputError, match="0 are not finite"):
        residua.calibrate(linear, [torch.full((2, 4), float("nan"))], out)

    class Idle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(residua.InputError, match="reaches the layer idle"):
        residua.calibrate(Idle(), [torch.ones(2, 4)], out)
    assert list(tmp_path.iterdir()) == [] and not left_behind(tmp_path)


def test_layers_that_run_twice_or_part_ways_are_measured_alone(tmp_path):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False)

        def forward(self, x):
            return self.a(self.a(x) + self.b(x))

    model, x = Twice(), torch.randn(8, 4, generator=torch.Generator().manual_seed(2))
    residua.calibrate(model, [x], tmp_path / "c.safetensors")
    found = load_file(tmp_path / "c.safetensors")
    with torch.no_grad():
        both = torch.cat([x, model.a(x) + model.b(x)])
    np.testing.assert_allclose(found["b.weight"][0], x.T @ x / 8, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["a.weight"][0], both.T @ both / 16, rtol=1e-5, atol=1e-6)


def test_a_tensor_that_changed_in_between_is_measured_again(tmp_path):
    class Changed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

        def forward(self, x):
            x = x + 1
            return self.a(x) + self.b(x.mul_(2))

    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(2))
    residua.calibrate(Changed(), [x], tmp_path / "c.safetensors")
    found = load_file(tmp_path / "c.safetensors")
    np.testing.assert_allclose(found["b.weight"], 4 * found["a.weight"], rtol=1e-5)


def test_the_model_comes_back_as_it_was(original, batches, tmp_path):
    original.train()
    original.model.layers[0].eval()
    residua.calibrate(original, batches, tmp_path / "c.safetensors")
    assert original.training and original.model.layers[1].training and not original.model.layers[0].training
    assert not original.model.layers[0].mlp.up_proj._forward_pre_hooks


def test_a_calibrated_split_has_a_smaller_error_of_outputs(folder, original, batches, tmp_path):
    residua.calibrate(original, batches, tmp_path / "c.safetensors")
    x = inputs(original, batches, UP)
    weight = original.get_parameter(UP).detach().double().numpy()
    errors = []
    for name, options in (("plain", {}), ("calibrated", {"calibration": tmp_path / "c.safetensors"})):
        residua.split(folder, tmp_path / name, density=0.02, **options)
        dense = residua.SplitFile(tmp_path / name / "model.safetensors").dense(UP)
        errors.append(np.linalg.norm(x @ (weight - dense).T) / np.linalg.norm(x @ weight.T))
    assert errors[1] < 0.9 * errors[0], errors
