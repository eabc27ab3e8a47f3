"""``residua.transformers``: a split folder loads, runs and generates."""

import json
import logging
import subprocess
import sys

import pytest
import torch
from conftest import left_behind
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

import residua
import residua.transformers
from residua.torch import ResidualLinear, alpha


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_logits_are_those_of_the_materialised_model(model, dense, tokens, value):
    with torch.no_grad(), alpha(model, value):
        assert relative(model(tokens).logits, dense(value)(tokens).logits) < 1e-5


def test_text_is_that_of_the_materialised_model(model, dense, tokens):
    generate = dict(max_new_tokens=32, do_sample=False, pad_token_id=0)
    with alpha(model, 1.0):
        assert torch.equal(model.generate(tokens, **generate), dense(1.0).generate(tokens, **generate))


def test_half_precision_is_the_default_of_the_folder(split, dense, tokens):
    model = AutoModelForCausalLM.from_pretrained(split, dtype=torch.bfloat16)
    assert model(tokens).logits.dtype == torch.bfloat16
    with torch.no_grad():
        assert relative(model(tokens).logits.float(), dense(1.0)(tokens).logits) < 5e-2


def test_everything_is_loaded_and_nothing_warned_of(split, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    model, info = AutoModelForCausalLM.from_pretrained(split, output_loading_info=True)
    assert not any(info.values()), info
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    kinds = {type(module) for name, module in model.named_modules() if name.endswith("_proj")}
    assert kinds == {ResidualLinear}
    assert type(model.lm_head) is torch.nn.Linear
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not [name for name, parameter in model.named_parameters() if parameter.is_meta]


def test_biases_and_untouched_tensors_are_the_original_ones(folder, split):
    old, new = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (folder, split))
    old, new = old.state_dict(), new.state_dict()
    assert "model.layers.1.self_attn.q_proj.bias" in new
    for name, tensor in new.items():
        assert torch.equal(tensor, old[name]), name
    assert {name for name in old if name not in new} == {name for name in old if name.endswith("_proj.weight")}


def test_the_folder_has_all_but_the_old_weights(folder, split):
    names = {path.name for path in split.iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer_config.json", "model.safetensors"} == names
    config = json.loads((split / "config.json").read_text())
    assert config.pop("quantization_config") == {"quant_method": "residua"}
    assert config == json.loads((folder / "config.json").read_text())


def test_a_model_without_its_head_loads(split, model, tokens):
    body = AutoModel.from_pretrained(split, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(body(tokens).last_hidden_state, model.model(tokens).last_hidden_state)


def test_alpha_of_the_folder_counts(split, tmp_path, tokens, model):
    for path in split.iterdir():
        (tmp_path / path.name).symlink_to(path)
    config = json.loads((split / "config.json").read_text())
    config["quantization_config"]["alpha"] = 0.0
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with torch.no_grad(), alpha(model, 0.0):
        base = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
        assert torch.equal(base(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize("device_map", ["cuda", "auto", {"": "cpu", "lm_head": "cuda:0"}, {"": "disk"}, {"": 0}])
def test_other_devices_are_refused(split, device_map):
    with pytest.raises(residua.UsageError, match="run on the CPU"):
        AutoModelForCausalLM.from_pretrained(split, device_map=device_map)


@pytest.mark.parametrize("device_map", ["cpu", {"": "cpu"}])
def test_the_cpu_is_accepted(split, device_map, tokens, model):
    pytest.importorskip("accelerate")
    loaded = AutoModelForCausalLM.from_pretrained(split, device_map=device_map, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(loaded(tokens).logits, model(tokens).logits)


def test_a_model_that_is_not_split_is_not_quantised_on_the_fly(folder):
    with pytest.raises(ValueError, match="pre-quantized"):
        AutoModelForCausalLM.from_pretrained(folder, quantization_config=residua.transformers.ResiduaConfig())


def test_saving_a_split_model_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="residua"):
        model.save_pretrained(tmp_path)


def test_without_the_import_transformers_only_warns(split):
    program = f"""
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained({str(split)!r})
print(type(model.model.layers[0].mlp.up_proj).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "Linear\n"
    assert "Unknown quantization type, got residua" in done.stderr


def test_from_pretrained_of_ours(split, folder, model, tokens):
    with torch.no_grad():
        loaded = residua.transformers.from_pretrained(split, dtype=torch.float32)
        assert torch.equal(loaded(tokens).logits, model(tokens).logits)
        body = residua.transformers.from_pretrained(split, auto_class=AutoModel)
    assert type(body).__name__ == "LlamaModel"
    with pytest.raises(residua.UsageError, match="is not a split model"):
        residua.transformers.from_pretrained(folder)


def test_a_split_over_another_model_needs_that_model(folder, tmp_path, tokens):
    old = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tuned = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        tuned.model.layers[0].mlp.up_proj.weight[:, ::7] += 0.5
    tuned.save_pretrained(tmp_path / "tuned")
    residua.split(tmp_path / "tuned", tmp_path / "out", base=folder, density=0.2, values="f32")
    with pytest.raises(residua.UsageError, match="base"):
        residua.transformers.from_pretrained(tmp_path / "out")
    model = residua.transformers.from_pretrained(tmp_path / "out", base=folder, dtype=torch.float32)
    with torch.no_grad():
        assert relative(model(tokens).logits, tuned(tokens).logits) < 1e-5
        with alpha(model, 0.0):
            assert relative(model(tokens).logits, old(tokens).logits) < 1e-5


def test_a_split_can_be_chosen_by_name(folder, tmp_path):
    (tmp_path / "out").mkdir()
    report = residua.split(folder, tmp_path / "out", include=["*.mlp.*"], exclude=["*.0.*"], base="int8", density=0.0)
    assert {tensor["name"] for tensor in report["tensors"]} == {
        f"model.layers.1.mlp.{name}_proj.weight" for name in ("up", "gate", "down")
    }
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(model.model.layers[0].mlp.up_proj) is torch.nn.Linear
    assert type(model.model.layers[1].mlp.up_proj) is ResidualLinear
    with pytest.raises(residua.UsageError, match="no linear layer"):
        residua.split(folder, tmp_path / "none", include=["nothing"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_shards_become_one_file(tmp_path, folder, split, tokens, model):
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").exists()
    residua.split(tmp_path / "shards", tmp_path / "out", density=0.1)
    assert not (tmp_path / "out" / "model.safetensors.index.json").exists()
    with torch.no_grad():
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
        assert torch.equal(loaded(tokens).logits, model(tokens).logits)


def test_outputs_that_exist_and_inputs_that_are_no_model_are_refused(folder, split, tmp_path):
    with pytest.raises(residua.UsageError, match="folder with files"):
        residua.split(folder, split)
    with pytest.raises(residua.UsageError, match="quantised already, by 'residua'"):
        residua.split(split, tmp_path / "twice")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(residua.InputError):
        residua.split(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not left_behind(tmp_path)


def test_a_failed_split_leaves_nothing_behind(folder, tmp_path):
    with pytest.raises(residua.BudgetError):
        residua.split(folder, tmp_path / "out", memory_budget=1000)
    assert list(tmp_path.iterdir()) == []


def test_an_output_head_of_its_own_passes_through(tmp_path):
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, tie_word_embeddings=False
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    residua.split(tmp_path / "model", tmp_path / "out")
    names = residua.SplitFile(tmp_path / "out" / "model.safetensors").names()
    assert len(names) == 7 and "lm_head.weight" not in names


def test_tied_linear_layers_are_not_replaced(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    name = "model.layers.0.mlp.up_proj.weight"
    assert residua.transformers._linear(model, name) is model.model.layers[0].mlp.up_proj
    model.model.layers[1].mlp.up_proj.weight = model.model.layers[0].mlp.up_proj.weight
    assert residua.transformers._linear(model, name) is None


def test_a_classifier_of_another_family_loads(tmp_path):
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_labels=3
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path / "model")
    residua.split(tmp_path / "model", tmp_path / "out", density=1.0, values="f32")
    old, new = (
        BertForSequenceClassification.from_pretrained(tmp_path / name, dtype=torch.float32).eval() for name in ("model", "out")
    )
    tokens = torch.arange(10)[None]
    with torch.no_grad():
        assert relative(new(tokens).logits, old(tokens).logits) < 1e-4
    assert isinstance(new.bert.encoder.layer[0].attention.self.query, ResidualLinear)


def test_a_model_without_linear_layers_is_refused(tmp_path):
    GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2)).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(residua.UsageError, match="no linear layer"):
        residua.split(tmp_path / "gpt2", tmp_path / "out")


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    config = MixtralConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=2,
    )
    path = tmp_path_factory.mktemp("experts") / "model"
    MixtralForCausalLM(config).save_pretrained(path)
    return path


def test_merged_experts_are_refused_by_name_and_can_stay(experts, tmp_path):
    with pytest.raises(residua.InputError, match=r"experts\.0\.w1\.weight cannot be split.*merges it"):
        residua.split(experts, tmp_path / "out")
    report = residua.split(experts, tmp_path / "out", exclude=["*.experts.*"], density=1.0, values="f32")
    assert [tensor["name"].split(".")[-2] for tensor in report["tensors"]] == ["k_proj", "o_proj", "q_proj", "v_proj"]
    old, new = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (experts, tmp_path / "out"))
    tokens = torch.arange(10)[None]
    with torch.no_grad():
        assert relative(new(tokens).logits, old(tokens).logits) < 1e-4


def test_a_file_with_split_experts_is_refused_by_name(experts, tmp_path):
    for path in experts.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    residua.split(experts, tmp_path / "model.safetensors", include=["*.experts.*"])
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "residua"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(residua.InputError, match=r"experts\.0\.w1\.weight is split, but transformers .* merges it"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_a_file_of_another_model_is_refused(folder, split, tmp_path):
    for path in split.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((split / "config.json").read_text())
    config["intermediate_size"] = 128
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(residua.InputError, match=r"proj.weight is \[.*96.*\] where the model has \[.*128.*\]"):
        AutoModelForCausalLM.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((split / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((split / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(residua.InputError):
        AutoModelForCausalLM.from_pretrained(tmp_path)
