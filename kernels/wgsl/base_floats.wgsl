// A dense base of floats in their stored type. No device needs 16-bit types: they are decoded from 32-bit words.

// Type of the values: F32, F16 or BF16.
override BASE_VALUES: u32;

// A word holds one f32, or two 16-bit values with the first column in the low half. A row starts at a whole word.
@group(0) @binding(6) var<storage, read> base: array<u32>;

// Values in one word.
fn base_per_word() -> u32 {
    return select(2u, 1u, BASE_VALUES == F32);
}

// Value `i` of a word.
fn base_value(word: u32, i: u32) -> f32 {
    if BASE_VALUES == F32 {
        return bitcast<f32>(word);
    }
    if BASE_VALUES == BF16 {
        return bitcast<f32>(select(word << 16u, word & 0xffff0000u, i == 1u));
    }
    let pair = unpack2x16float(word);
    return select(pair.x, pair.y, i == 1u);
}

// The factor of all values of a word: floats have none.
fn base_scale(row: u32, word: u32) -> f32 {
    return 1.0;
}
