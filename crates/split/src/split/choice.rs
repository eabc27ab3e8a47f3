//! Which tensors are split, and over which base.

use glob::Pattern;
use residua_format::BaseKind;
use residua_format::file::TensorInfo;

use crate::float::Float;
use crate::{BaseSpec, PassReason, SplitError, SplitOptions};

/// What the options say about tensors.
#[derive(Debug)]
pub(super) struct Choice {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    bases: Vec<(Pattern, BaseKind)>,
    /// The base of all other tensors; `None` if it is another checkpoint.
    kind: Option<BaseKind>,
}

impl Choice {
    pub(super) fn new(options: &SplitOptions) -> Result<Self, SplitError> {
        let kind = match options.base {
            BaseSpec::Quantized(kind) => Some(kind),
            BaseSpec::Checkpoint(_) => None,
        };
        if let (None, Some((glob, kind))) = (kind, options.bases.first()) {
            let problem = format!("{glob:?} asks for {kind}, but the base is another checkpoint");
            return Err(SplitError::Usage(problem));
        }
        let bases = options.bases.iter().map(|(glob, kind)| Ok((pattern(glob)?, *kind)));
        Ok(Self {
            include: options.include.iter().map(|glob| pattern(glob)).collect::<Result<_, _>>()?,
            exclude: options.exclude.iter().map(|glob| pattern(glob)).collect::<Result<_, _>>()?,
            bases: bases.collect::<Result<_, SplitError>>()?,
            kind,
        })
    }

    /// How the base of a tensor is quantised; `None` if it is another checkpoint.
    ///
    /// # Errors
    /// Why the tensor passes through.
    pub(super) fn base(&self, info: &TensorInfo) -> Result<Option<BaseKind>, PassReason> {
        if Float::of(info.dtype).is_none() {
            return Err(PassReason::NotFloat);
        }
        match *info.shape {
            [rows, cols] if rows > 0 && cols > 0 => {}
            // Other tensors of three dimensions are no linear layers.
            [stack, rows, cols]
                if info.name.to_ascii_lowercase().contains("expert") && stack * rows > 0 && cols > 0 => {}
            _ => return Err(PassReason::NotMatrix),
        }
        let matches = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(&info.name));
        if matches(&self.exclude) {
            return Err(PassReason::Excluded);
        }
        if !self.include.is_empty() && !matches(&self.include) {
            return Err(PassReason::NotIncluded);
        }
        if let Some((_, kind)) = self.bases.iter().find(|(pattern, _)| pattern.matches(&info.name)) {
            return Ok(Some(*kind));
        }
        // Over another checkpoint, the base is exact and costs nothing.
        match by_name(&info.name, &info.shape) {
            Some(reason) if self.include.is_empty() && self.kind.is_some() => Err(reason),
            _ => Ok(self.kind),
        }
    }
}

fn pattern(glob: &str) -> Result<Pattern, SplitError> {
    Pattern::new(glob).map_err(|error| SplitError::Usage(format!("pattern {glob:?}: {error}")))
}

/// Parts of names of embeddings.
const EMBEDDINGS: [&str; 5] = ["wte", "wpe", "emb", "shared", "relative_attention_bias"];
/// Parts of names of layers that give scores of tokens or classes.
const HEADS: [&str; 10] = [
    "lm_head",
    "head",
    "output_layer",
    "score",
    "classifier",
    "predictions",
    "qa_outputs",
    "logits",
    "to_logits",
    "vocab_head",
];
/// The same, for names that are not inside of a block.
const TOP_HEADS: [&str; 2] = ["output", "proj_out"];

/// Why a matrix of this name passes through when nobody asks for it: it is no linear layer inside of the model, or a
/// low precision there costs more than it saves.
fn by_name(name: &str, shape: &[usize]) -> Option<PassReason> {
    let name = name.to_ascii_lowercase();
    let parts: Vec<&str> = name.split(['.', '/']).collect();
    // The parameter, its module, and the module around.
    let (last, rest) = parts.split_last()?;
    let module = rest.last().copied().unwrap_or(last);
    let around = rest.iter().rev().nth(1).copied().unwrap_or_default();
    let own = [module, last];
    let any = |test: &dyn Fn(&str) -> bool| own.iter().any(|part| test(part));
    if any(&|part| part.contains("embed") || part.contains("embd") || EMBEDDINGS.contains(&part)) {
        return Some(PassReason::Embedding);
    }
    let top = rest.len() <= 1 || around == "model" && rest.len() == 2;
    if HEADS.contains(&module) || HEADS.contains(last) || ["predictions", "classifier"].contains(&around) {
        return Some(PassReason::OutputHead);
    }
    if top && TOP_HEADS.contains(&module) {
        return Some(PassReason::OutputHead);
    }
    if any(&|part| part.contains("norm") || part.starts_with("ln_")) {
        return Some(PassReason::Norm);
    }
    // A gate of experts has few outputs. The gate of a gated layer has many.
    let few = matches!(*shape, [rows, cols] if rows < cols);
    if module == "router" || around == "router" || few && module == "gate" {
        return Some(PassReason::Router);
    }
    (*last == "bias" || last.ends_with("_bias") || *last == "a_log").then_some(PassReason::NotLinear)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of real models, with a shape as they have it.
    #[test]
    fn tensors_are_known_by_their_names() {
        use PassReason::{Embedding, Norm, NotLinear, OutputHead, Router};
        let cases: &[(&str, [usize; 2], Option<PassReason>)] = &[
            ("model.embed_tokens.weight", [32000, 4096], Some(Embedding)),
            ("transformer.wte.weight", [50257, 768], Some(Embedding)),
            ("wpe.weight", [1024, 768], Some(Embedding)),
            ("shared.weight", [32128, 512], Some(Embedding)),
            (
                "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                [32, 8],
                Some(Embedding),
            ),
            ("bert.embeddings.word_embeddings.weight", [30522, 768], Some(Embedding)),
            ("tok_embeddings.weight", [32000, 4096], Some(Embedding)),
            ("token_embd.weight", [32000, 4096], Some(Embedding)),
            ("vision_model.pos_embed", [197, 768], Some(Embedding)),
            ("embed_out.weight", [50432, 2048], Some(Embedding)),
            ("lm_head.weight", [32000, 4096], Some(OutputHead)),
            ("output.weight", [32000, 4096], Some(OutputHead)),
            ("model.output.weight", [32000, 4096], Some(OutputHead)),
            ("cls.predictions.decoder.weight", [30522, 768], Some(OutputHead)),
            ("classifier.out_proj.weight", [2, 768], Some(OutputHead)),
            ("score.weight", [2, 4096], Some(OutputHead)),
            ("model.layers.0.input_layernorm.weight", [1, 4096], Some(Norm)),
            ("h.0.ln_1.weight", [1, 768], Some(Norm)),
            ("model.layers.0.block_sparse_moe.gate.weight", [8, 4096], Some(Router)),
            ("model.layers.0.mlp.router.weight", [32, 2880], Some(Router)),
            ("model.layers.0.mlp.experts.gate_up_proj_bias", [32, 5760], Some(NotLinear)),
            ("backbone.layers.0.mixer.A_log", [1536, 16], Some(NotLinear)),
            ("model.layers.0.self_attn.q_proj.weight", [4096, 4096], None),
            ("model.layers.0.mlp.gate_proj.weight", [11008, 4096], None),
            ("mlp.gate.weight", [11008, 4096], None),
            ("model.layers.0.mlp.experts.3.w1.weight", [14336, 4096], None),
            ("bert.encoder.layer.0.attention.output.dense.weight", [768, 768], None),
            ("bert.encoder.layer.0.output.dense.weight", [768, 3072], None),
            ("bert.pooler.dense.weight", [768, 768], None),
            ("text_embedder.encoder.layer.0.attention.self.query.weight", [384, 384], None),
            ("transformer.h.0.attn.c_attn.weight", [768, 2304], None),
            ("transformer.blocks.0.norm1.linear.weight", [18432, 3072], None),
            ("layer.weight", [64, 256], None),
            ("w", [64, 256], None),
        ];
        for (name, shape, expected) in cases {
            assert_eq!(by_name(name, shape), *expected, "{name}");
        }
    }
}
