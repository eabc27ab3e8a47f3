//! Whatever a C program writes into a layer's struct and buffers: a result or an error, and no access outside of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use residua_capi::*;

/// Takes numbers off the front of the input; zeros when it is used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// Mostly small, sometimes anything.
    fn size(&mut self, most: usize) -> usize {
        match self.byte() {
            255 => (self.word() as usize) << (self.byte() % 33),
            254 => usize::MAX - self.byte() as usize,
            other => usize::from(other) % most,
        }
    }

    fn fill<T: Copy>(&mut self, to: *mut T, len: usize, of: impl Fn(&mut Self) -> T) {
        for at in 0..if to.is_null() { 0 } else { len } {
            // SAFETY: the callers below pass lengths that they allocated.
            unsafe { to.add(at).write(of(self)) };
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Bytes(bytes);
    let (inputs, outputs) = (1 + usize::from(bytes.byte() % 140), 1 + usize::from(bytes.byte() % 40));
    let q_bits = if bytes.byte().is_multiple_of(2) { 4 } else { 8 };
    let count = usize::from(bytes.byte() % 64);
    let mut layer = orth_layer_t::default();
    // SAFETY: the layer is this function's own; buffers are written within their sizes; x and y have as many values
    // as any shape calls for whose codes fit the base's buffer.
    unsafe {
        assert_eq!(orth_layer_init(&mut layer, inputs, outputs, q_bits), 0);
        let (kind, code_bytes) = (bytes.byte() % 3, (inputs * outputs * q_bits as usize).div_ceil(8));
        let allocated = match kind {
            0 => orth_layer_alloc_ortho(&mut layer, count),
            1 => orth_layer_alloc_ortho_csr(&mut layer, count, outputs),
            _ => orth_layer_alloc_ortho_coo32(&mut layer, count),
        };
        assert_eq!(allocated, 0);
        let pointers = if kind == 1 { outputs + 1 } else { count };
        let index = |limit: usize| {
            move |bytes: &mut Bytes<'_>| match bytes.byte() {
                255 => bytes.word() as i32,
                other => i32::from(other) % (limit as i32 + 1),
            }
        };
        bytes.fill(layer.ortho.row_ptr, pointers, index(if kind == 1 { count } else { outputs }));
        if kind == 1 && bytes.byte() < 200 {
            // Mostly in order, so that the rest is reached.
            std::slice::from_raw_parts_mut(layer.ortho.row_ptr, pointers).sort_unstable();
            layer.ortho.row_ptr.write(0);
            layer.ortho.row_ptr.add(outputs).write(count as i32);
        }
        bytes.fill(layer.ortho.col_indices, count, index(inputs));
        bytes.fill(layer.ortho.indices, count, |bytes| bytes.word() as u16 % (inputs * outputs + 1) as u16);
        bytes.fill(layer.ortho.values, count, |bytes| f32::from_bits(bytes.word()));
        bytes.fill(layer.base.q_weight.cast(), code_bytes.min(64), Bytes::byte);
        bytes.fill(layer.base.q_scales.cast::<f32>(), outputs, |bytes| f32::from(bytes.byte()));

        let batch = usize::from(bytes.byte() % 36);
        let x = vec![1.5f32; 2 * code_bytes * batch];
        let mut y = vec![7.0f32; 2 * code_bytes * batch];
        let original = layer;
        for _ in 0..4 {
            let valid = orth_layer_validate(&layer) == 0;
            y.fill(7.0);
            let ran = orth_layer_forward(&layer, x.as_ptr(), y.as_mut_ptr(), batch) == 0;
            assert!(ran || y.iter().all(|&y| y == 7.0), "a failure wrote");
            assert!(ran || !valid, "a valid layer does not run");
            assert!(valid || !ran || layer.alpha == 0.0, "a bad layer runs");
            // Then with something changed in the struct.
            match bytes.byte() % 12 {
                0 => layer.base.in_features = bytes.size(280),
                1 => layer.base.out_features = bytes.size(80),
                2 => layer.base.q_bits = i32::from(bytes.byte() % 9),
                3 => layer.ortho.count = bytes.size(70) as i32,
                4 => layer.ortho.format = i32::from(bytes.byte() % 4),
                5 => layer.ortho.values = layer.ortho.values.wrapping_add(bytes.size(3)),
                6 => layer.ortho.row_ptr = layer.ortho.col_indices,
                7 => layer.ortho.indices = layer.ortho.row_ptr.cast(),
                8 => layer.base.q_scales = layer.base.q_weight,
                9 => layer.alpha = f32::from_bits(bytes.word()),
                10 => layer.base.q_weight = std::ptr::without_provenance_mut(bytes.word() as usize),
                _ => bytes.fill(original.ortho.col_indices, count, index(inputs)),
            }
        }
        orth_layer_free(&mut layer);
        layer = original;
        orth_layer_free(&mut layer);
    }
});
