//! Whatever the bytes: no panic, nothing beyond the budget, and a compensator that is read moves features and is saved again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use residua_compensate::compensator::load;
use residua_compensate::{Attention, Linear, MemorySource, Method, Mode, Rff, WeakNonlinear};
use residua_fuzz::{beside, seeds, with_safetensors};
use residua_memory::Budget;

fuzz_target!(
    init: {
        seeds(|folder| {
            let before: Vec<f32> = (0..120).map(|i| (i as f32 * 0.7).sin()).collect();
            let after: Vec<f32> = before.iter().map(|value| 1.5 * value).collect();
            let methods: [(&str, Box<dyn Method>); 5] = [
                ("linear", Box::new(Linear::default())),
                ("attention", Box::new(Attention::default())),
                ("rff", Box::new(Rff::default().with_features(6))),
                ("rff-compat", Box::new(Rff::new(Mode::Compat).with_features(6).with_points(5))),
                ("network", Box::new(WeakNonlinear::new(Mode::Compat).with_steps(1).with_points(5))),
            ];
            for (name, method) in methods {
                let mut pairs = MemorySource::pairs(4, &before, &after).unwrap();
                method.fit(&mut pairs, &Budget::unlimited()).unwrap().save(&folder.join(name)).unwrap();
            }
        });
    },
    |bytes: &[u8]| {
        let budget = Budget::new(1 << 26);
        with_safetensors(bytes, |path| {
            let Ok((kind, read)) = load(path, &budget) else { return };
            read.save(&beside("copy.safetensors")).unwrap();
            assert_eq!(load(beside("copy.safetensors"), &budget).unwrap().0, kind);
            let _ = read.apply_features(&vec![0.5; 2 * read.dim()], &budget);
        });
        assert_eq!(budget.used(), 0);
    }
);
