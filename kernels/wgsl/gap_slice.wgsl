// Slices of a gap-encoded matrix, and the sum over one lane of a slice.
//
// A slice is 64 lanes side by side. A team of 1, 2, 4, … or 64 neighbouring lanes shares a row, or a segment of a
// long row. Each lane has a run of the entries and the column before its first entry, so no lane waits for the
// columns of another. Words of `data` from `start` on:
//
//     64                    column before each lane's first entry; before column 0 it is 2^32 - 1
//     3 for each team       row, part, scale: f32 bits of the factor of the row's sum
//     64 for each word      quads: gap words, then value words, of four entries of every lane
//
// A gap of 0 is a filler: it advances by the largest gap and is no entry. Fillers pad the end of a lane.

// Bits of a gap: 8 or 16.
override GAP_BITS: u32;
// Type of the values: F32, F16, BF16 or I8.
override VALUES: u32;

const F32 = 0u;
const F16 = 1u;
const BF16 = 2u;
const I8 = 3u;

const LANES = 64u;
// The row of a team that does not exist.
const NO_ROW = 0xffffffffu;
// The part of a team that has a whole row. Otherwise the low bits are 1 + the number of the segment in the matrix.
const WHOLE = 0u;
// Set in the part of a row's first segment.
const FIRST_SEGMENT = 0x80000000u;

struct Slice {
    start: u32,
    quads: u32,
    // Lanes in each team.
    team: u32,
    unused: u32,
}

@group(0) @binding(1) var<storage, read> slices: array<Slice>;
@group(0) @binding(2) var<storage, read> data: array<u32>;
// [cols][chunks]
@group(0) @binding(3) var<storage, read> x: array<Cell>;
// [rows][chunks]
@group(0) @binding(4) var<storage, read_write> y: array<Cell>;
// [segments][chunks]
@group(0) @binding(5) var<storage, read_write> segment_sums: array<Cell>;

struct Team {
    row: u32,
    part: u32,
    scale: f32,
}

fn read_team(slice: Slice, team: u32) -> Team {
    let at = slice.start + LANES + 3u * team;
    return Team(data[at], data[at + 1u], bitcast<f32>(data[at + 2u]));
}

fn read_gaps(at: u32) -> vec4<u32> {
    let low = data[at];
    if GAP_BITS == 8u {
        return vec4(low & 255u, (low >> 8u) & 255u, (low >> 16u) & 255u, low >> 24u);
    }
    let high = data[at + LANES];
    return vec4(low & 0xffffu, low >> 16u, high & 0xffffu, high >> 16u);
}

fn read_values(at: u32) -> vec4<f32> {
    let a = data[at];
    if VALUES == I8 {
        let codes = vec4<i32>(vec4(a << 24u, a << 16u, a << 8u, a)) >> vec4(24u);
        return vec4<f32>(codes);
    }
    let b = data[at + LANES];
    if VALUES == BF16 {
        return bitcast<vec4<f32>>(vec4(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
    }
    if VALUES == F16 {
        return vec4(unpack2x16float(a), unpack2x16float(b));
    }
    return bitcast<vec4<f32>>(vec4(a, b, data[at + 2u * LANES], data[at + 3u * LANES]));
}

// The product of one entry. A filler is masked, because 0 times infinity is not 0.
fn term(gap: u32, value: f32, column: u32, chunk: u32, chunks: u32) -> Cell {
    let filler = gap == 0u;
    return select(value * x[select(column, 0u, filler) * chunks + chunk], Cell(), filler);
}

// The sum over a lane's entries for chunk `chunk` of the batch.
fn lane_sum(slice: Slice, lane: u32, chunk: u32, chunks: u32) -> Cell {
    let gap_words = GAP_BITS / 8u; // words of four gaps
    let value_words = select(select(2u, 4u, VALUES == F32), 1u, VALUES == I8);
    var column = data[slice.start + lane];
    var at = slice.start + LANES + 3u * (LANES / slice.team) + lane;
    var sum = Cell();
    for (var quad = 0u; quad < slice.quads; quad++) {
        let gap = read_gaps(at);
        let value = read_values(at + gap_words * LANES);
        let step = select(gap, vec4((1u << GAP_BITS) - 1u), gap == vec4(0u));
        let column0 = column + step.x;
        let column1 = column0 + step.y;
        let column2 = column1 + step.z;
        column = column2 + step.w;
        sum += term(gap.x, value.x, column0, chunk, chunks);
        sum += term(gap.y, value.y, column1, chunk, chunks);
        sum += term(gap.z, value.z, column2, chunk, chunks);
        sum += term(gap.w, value.w, column, chunk, chunks);
        at += (gap_words + value_words) * LANES;
    }
    return sum;
}
