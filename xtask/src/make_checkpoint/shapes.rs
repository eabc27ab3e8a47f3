//! Tensor names and shapes of the Llama family.

use std::str::FromStr;

/// The sizes that determine all tensor shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) layers: u64,
    pub(super) hidden: u64,
    pub(super) intermediate: u64,
    /// Rows of the key and value projections: key/value heads times head size.
    pub(super) kv: u64,
    pub(super) vocab: u64,
    /// Whether the output layer is the embedding itself.
    pub(super) tied: bool,
}

pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
}

impl Tensor {
    pub(super) fn len(&self) -> u64 {
        self.shape.iter().product()
    }
}

const VOCAB: u64 = 128_256;
const LLAMA_1B: Model =
    Model { layers: 16, hidden: 2048, intermediate: 8192, kv: 512, vocab: VOCAB, tied: true };
const LLAMA_3B: Model =
    Model { layers: 28, hidden: 3072, intermediate: 8192, kv: 1024, vocab: VOCAB, tied: true };
const LLAMA_8B: Model =
    Model { layers: 32, hidden: 4096, intermediate: 14_336, kv: 1024, vocab: VOCAB, tied: false };

impl FromStr for Model {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_uppercase().as_str() {
            "1B" => Ok(LLAMA_1B),
            "3B" => Ok(LLAMA_3B),
            "8B" => Ok(LLAMA_8B),
            other => parameters(other).map(Self::near).ok_or_else(|| {
                format!("{text:?} is no model size: write 8B, 3B, 1B or a number such as 100M")
            }),
        }
    }
}

/// Reads `100M`, `1.5B`, `500K`.
fn parameters(text: &str) -> Option<u64> {
    let unit = match text.chars().last()? {
        'K' => 1e3,
        'M' => 1e6,
        'B' => 1e9,
        _ => return None,
    };
    let number: f64 = text[..text.len() - 1].parse().ok()?;
    (number > 0.0 && number * unit < 1e12).then_some((number * unit) as u64)
}

impl Model {
    /// The 1B shapes, halved until at least four layers fit, with the number of layers that comes closest.
    fn near(parameters: u64) -> Self {
        let mut model = LLAMA_1B;
        // Below 32 the key and value projections would have only a few rows.
        while model.hidden > 64 && model.with_layers(4).parameters() > parameters {
            model.hidden /= 2;
            model.intermediate /= 2;
            model.kv /= 2;
            model.vocab /= 2;
        }
        let fixed = model.with_layers(0).parameters();
        let layer = model.with_layers(1).parameters() - fixed;
        model.with_layers((parameters.saturating_sub(fixed) + layer / 2) / layer).at_least_one_layer()
    }

    fn with_layers(&self, layers: u64) -> Self {
        Self { layers, ..self.clone() }
    }

    fn at_least_one_layer(self) -> Self {
        Self { layers: self.layers.max(1), ..self }
    }

    pub(super) fn parameters(&self) -> u64 {
        self.tensors().iter().map(Tensor::len).sum()
    }

    /// All tensors, in the order of the file.
    pub(super) fn tensors(&self) -> Vec<Tensor> {
        let &Self { layers, hidden, intermediate, kv, vocab, tied } = self;
        let mut tensors = Vec::new();
        let mut add = |name: String, shape: &[u64]| tensors.push(Tensor { name, shape: shape.to_vec() });
        add("model.embed_tokens.weight".into(), &[vocab, hidden]);
        for layer in 0..layers {
            let mut add =
                |name: &str, shape: &[u64]| add(format!("model.layers.{layer}.{name}.weight"), shape);
            add("input_layernorm", &[hidden]);
            add("mlp.down_proj", &[hidden, intermediate]);
            add("mlp.gate_proj", &[intermediate, hidden]);
            add("mlp.up_proj", &[intermediate, hidden]);
            add("post_attention_layernorm", &[hidden]);
            add("self_attn.k_proj", &[kv, hidden]);
            add("self_attn.o_proj", &[hidden, hidden]);
            add("self_attn.q_proj", &[hidden, hidden]);
            add("self_attn.v_proj", &[kv, hidden]);
        }
        add("model.norm.weight".into(), &[hidden]);
        if !tied {
            add("lm_head.weight".into(), &[vocab, hidden]);
        }
        tensors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(text: &str) -> Model {
        text.parse().unwrap()
    }

    #[test]
    fn published_parameter_counts() {
        assert_eq!(model("1B").parameters(), 1_235_814_400);
        assert_eq!(model("3b").parameters(), 3_212_749_824);
        assert_eq!(model("8B").parameters(), 8_030_261_248);
    }

    #[test]
    fn other_sizes_come_close() {
        for (text, wanted) in [("5M", 5e6), ("100M", 1e8), ("700M", 7e8), ("2.5B", 2.5e9)] {
            let ratio = model(text).parameters() as f64 / wanted;
            assert!((0.9..1.1).contains(&ratio), "{text}: {ratio}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "B", "3", "-1B", "0M", "huge", "nanB"] {
            assert!(text.parse::<Model>().is_err(), "{text:?}");
        }
    }
}
