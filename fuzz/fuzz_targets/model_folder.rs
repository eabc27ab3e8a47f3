//! Whatever the config of a model's folder holds: a split whose config is JSON that names the method, or an error and
//! nothing written.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use residua_fuzz::{beside, model, seeds};
use residua_memory::Budget;
use residua_split::{NoProgress, Output, SplitOptions, split_folder};

fuzz_target!(
    init: {
        fs::create_dir(beside("model")).unwrap();
        model(&beside("model").join("model.safetensors"), 0.0);
        seeds(|folder| {
            for (name, config) in [
                ("plain", r#"{"architectures": ["LlamaForCausalLM"], "quantization_config": null}"#),
                ("python", r#"{"limit": [0.0, Infinity, -Infinity, NaN], "a": "Infinity \" \\"}"#),
                ("quantised", r#"{"quantization_config": {"quant_method": "gptq"}}"#),
            ] {
                fs::write(folder.join(name), config).unwrap();
            }
        });
    },
    |bytes: &[u8]| {
        let (input, output) = (beside("model"), beside("split"));
        fs::write(input.join("config.json"), bytes).unwrap();
        let budget = Budget::new(1 << 26);
        let options = SplitOptions::default().density(0.0);
        match split_folder(&input, Output(&output), &options, &budget, &NoProgress) {
            Ok(_) => {
                let config = fs::read_to_string(output.join("config.json")).unwrap();
                assert!(config.contains("\"quant_method\""), "{config}");
                fs::remove_dir_all(&output).unwrap();
            }
            Err(_) => assert!(!output.exists()),
        }
        assert_eq!(budget.used(), 0);
    }
);
