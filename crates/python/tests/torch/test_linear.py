"""``residua.torch``: the layer as a module."""

import copy
import pickle
import shutil
import threading

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import residua
from residua.torch import ResidualLinear, alpha, set_activations, set_alpha

NAME = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def linear(split):
    return ResidualLinear(residua.SplitFile(split / "model.safetensors").layer(NAME), torch.linspace(-1, 1, 96))


def random(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5)).to(dtype)


def expected(linear, x):
    return (x.double() @ linear.dense().double().T + linear.bias.double()).detach()


@pytest.mark.parametrize("shape", [(64,), (1, 64), (3, 64), (2, 5, 64), (2, 1, 3, 64), (0, 64), (2, 0, 64)])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_leading_dimensions_and_alpha(linear, shape, value):
    linear.alpha = value
    x = random(*shape)
    y = linear(x)
    assert y.shape == (*shape[:-1], 96)
    torch.testing.assert_close(y.double(), expected(linear, x), rtol=1e-5, atol=1e-5)


def test_dense_is_what_materialize_writes(split, linear, dense):
    for value in (0.0, 1.0):
        linear.alpha = value
        torch.testing.assert_close(linear.dense(), dense(value).model.layers[0].mlp.up_proj.weight.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 1e-2)])
def test_half_types_come_back_as_they_were(linear, dtype, tolerance):
    x = random(4, 64, dtype=dtype)
    y = linear(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected(linear, x), rtol=tolerance, atol=tolerance)


def test_any_layout(linear):
    x = random(64, 6).T
    assert not x.is_contiguous()
    torch.testing.assert_close(linear(x), linear(x.contiguous()), rtol=0, atol=0)
    wide = random(5, 128)
    torch.testing.assert_close(linear(wide[:, ::2]), linear(wide[:, ::2].contiguous()), rtol=0, atol=0)
    one = random(1, 64).expand(3, 64)
    torch.testing.assert_close(linear(one), linear(one.contiguous()), rtol=0, atol=0)


def test_torch_defaults_change_nothing(linear):
    x = random(2, 64)
    before = linear(x)
    torch.set_default_dtype(torch.bfloat16)
    try:
        torch.testing.assert_close(linear(x), before, rtol=0, atol=0)
    finally:
        torch.set_default_dtype(torch.float32)


def test_wrong_inputs_are_refused_with_words(linear):
    with pytest.raises(residua.UsageError, match=r"up_proj.*\[2, 63\], not \[\.\.\., 64\]"):
        linear(random(2, 63))
    with pytest.raises(residua.UsageError, match="torch.int64.*float32"):
        linear(torch.ones(2, 64, dtype=torch.int64))
    with pytest.raises(residua.UsageError, match="torch.float64"):
        linear(random(2, 64, dtype=torch.float64))
    with pytest.raises(residua.UsageError, match=r"64\]"):
        linear(torch.tensor(1.0))
    with FakeTensorMode(allow_non_fake_inputs=True):
        cuda = torch.empty(2, 64, device="cuda")
    with pytest.raises(residua.UsageError, match=r"cuda.*x\.cpu\(\)"):
        linear(cuda)


def test_wrong_parts_are_refused(linear):
    with pytest.raises(residua.UsageError, match=r"bias of shape \[95\] for 96 outputs"):
        ResidualLinear(linear.layer, torch.zeros(95))
    with pytest.raises(residua.UsageError, match="finite"):
        ResidualLinear(linear.layer, alpha=float("nan"))


def test_alpha_of_a_model(model, tokens):
    whole = model(tokens).logits
    with alpha(model, 0.0):
        base = model(tokens).logits
        with alpha(model, 0.5):
            half = model(tokens).logits
        assert torch.equal(model(tokens).logits, base)
    assert torch.equal(model(tokens).logits, whole)
    assert not torch.allclose(base, whole) and not torch.allclose(half, whole)
    set_alpha(model, 0)
    assert torch.equal(model(tokens).logits, base)


def test_alpha_comes_back_after_an_error(model):
    first = next(module for module in model.modules() if isinstance(module, ResidualLinear))
    first.alpha = 0.25
    with pytest.raises(RuntimeError, match="mine"), alpha(model, 0.0):
        assert first.alpha == 0.0
        raise RuntimeError("mine")
    assert first.alpha == 0.25


def test_alpha_must_be_finite_and_have_a_layer(model):
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(residua.UsageError, match="finite"):
            set_alpha(model, wrong)
        with pytest.raises(residua.UsageError, match="finite"), alpha(model, wrong):
            pass
    with pytest.raises(residua.UsageError, match="Linear has no split layer"):
        set_alpha(torch.nn.Linear(2, 2), 1.0)


def test_deepcopy_shares_the_weights_and_nothing_else(linear):
    other = copy.deepcopy(linear)
    assert other.layer is linear.layer
    other.alpha = 0.0
    with torch.no_grad():
        other.bias.zero_()
    assert linear.alpha == 1.0 and linear.bias.abs().sum() > 0
    x = random(2, 64)
    del linear
    torch.testing.assert_close(other(x).double(), expected(other, x), rtol=1e-5, atol=1e-5)


def test_pickle_reads_the_file_again(linear, split, tmp_path):
    x = random(2, 64)
    other = ResidualLinear(residua.SplitFile(split / "model.safetensors").layer(NAME), linear.bias)
    pickled = pickle.dumps(other)
    del other
    assert torch.equal(pickle.loads(pickled)(x), linear(x))
    moved = tmp_path / "model.safetensors"
    shutil.copyfile(split / "model.safetensors", moved)
    pickled = pickle.dumps(ResidualLinear(residua.SplitFile(moved).layer(NAME)))
    moved.unlink()
    with pytest.raises(residua.IoError, match="model.safetensors"):
        pickle.loads(pickled)


def test_state_dict_is_the_bias_alone(linear):
    assert list(linear.state_dict()) == ["bias"]
    assert "64, 96, bias=True, alpha=1" in repr(linear)


def test_gradients_of_the_input(linear):
    x = random(2, 3, 64).requires_grad_()
    linear.alpha = 0.5
    weights = random(2, 3, 96)
    (linear(x) * weights).sum().backward()
    torch.testing.assert_close(x.grad, weights @ linear.dense(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(linear.bias.grad, weights.sum((0, 1)), rtol=1e-5, atol=1e-5)


def test_second_derivatives(linear):
    x = random(2, 64).requires_grad_()
    (first,) = torch.autograd.grad(linear(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    dense = linear.dense()
    torch.testing.assert_close(second, 2 * torch.ones(2, 64) @ (dense.T @ dense), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(64,), (2, 3, 64), (0, 64)])
def test_operators_keep_the_rules_of_torch(linear, dtype, shape):
    x = random(*shape, dtype=dtype).requires_grad_()
    torch.library.opcheck(torch.ops.residua.linear, (x, linear._key, 0.5, 96))
    y = random(*shape[:-1], 96, dtype=dtype).requires_grad_()
    torch.library.opcheck(torch.ops.residua.linear_transposed, (y, linear._key, 0.5, 64))


@pytest.mark.filterwarnings("ignore")
def test_compiled_models_follow_alpha(linear):
    x = random(3, 64)
    compiled = torch.compile(linear, fullgraph=True, backend="aot_eager")
    for value in (1.0, 0.0, 0.25):
        linear.alpha = value
        torch.testing.assert_close(compiled(x), linear(x), rtol=0, atol=0)
    x = x.requires_grad_()
    (grad,) = torch.autograd.grad(compiled(x).sum(), x)
    torch.testing.assert_close(grad, (torch.ones(3, 96) @ linear.dense()), rtol=1e-4, atol=1e-4)


def test_a_layer_that_is_gone_is_refused(linear):
    key = linear._key
    del linear
    with pytest.raises(residua.UsageError, match="is gone"):
        torch.ops.residua.linear(random(2, 64), 10**9 + key, 1.0, 96)


def test_threads_share_a_layer(linear):
    x = [random(size, 64) for size in (1, 2, 1, 7)]
    wanted = [linear(each) for each in x]
    wrong = []

    def work():
        for _ in range(50):
            wrong.extend(each for each, y in zip(x, wanted) if not torch.equal(linear(each), y))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_activations_of_8_bits(split):
    module = ResidualLinear(residua.SplitFile(split / "model.safetensors").layer(NAME))
    x = random(20, 64)
    exact = module(x)
    module.alpha = 0.0
    base = module(x)
    set_activations(module, "i8")
    assert module.layer.activations == "i8"
    rounded = module(x)
    assert 0 < (rounded - base).norm() / base.norm() < 0.01
    # The residual takes the inputs as they are.
    module.alpha = 1.0
    torch.testing.assert_close(module(x) - rounded, exact - base, rtol=1e-4, atol=1e-4)
    # They outlive a pickle, and the operator sees the layer of now.
    again = pickle.loads(pickle.dumps(module))
    assert again.layer.activations == "i8"
    torch.testing.assert_close(again(x), module(x), rtol=0, atol=0)
    torch.testing.assert_close(module(x.clone().requires_grad_()), module(x), rtol=0, atol=0)
    set_activations(module, "f32")
    torch.testing.assert_close(module(x), exact, rtol=0, atol=0)
    with pytest.raises(residua.UsageError, match="i4"):
        set_activations(module, "i4")
