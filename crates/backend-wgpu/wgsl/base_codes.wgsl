// Written by `cargo xtask kernels` from kernels/wgsl; change it there.
// A quantised base: codes of 4 or 8 bits. Neighbouring columns of a row share a scale.

// Bits of a code: 4 or 8.
override CODE_BITS: u32;

// Codes in two's complement. A word holds its first column in the lowest bits. A row starts at a whole word.
@group(0) @binding(6) var<storage, read> base: array<u32>;
// [rows][groups]
@group(0) @binding(7) var<storage, read> scales: array<f32>;

// Values in one word.
fn base_per_word() -> u32 {
    return 32u / CODE_BITS;
}

// Value `i` of a word, without its scale.
fn base_value(word: u32, i: u32) -> f32 {
    return f32(extractBits(i32(word), i * CODE_BITS, CODE_BITS));
}

// The factor of all values of word `word` in row `row` of this dispatch.
fn base_scale(row: u32, word: u32) -> f32 {
    return scales[row * params.groups + word / params.group_words];
}
