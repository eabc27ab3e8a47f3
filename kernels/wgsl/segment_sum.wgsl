// y = alpha * (sum of a long row's segments) + beta * y: the second step for rows in segments. Segments are added
// in order. One thread for each long row and chunk.

override THREADS: u32;

struct Params {
    alpha: f32,
    beta: f32,
    chunks: u32,
    long_rows: u32,
}

struct LongRow {
    row: u32,
    first: u32,
    segments: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> long_rows: array<LongRow>;
// [segments][chunks]
@group(0) @binding(2) var<storage, read> segment_sums: array<Cell>;
// [rows][chunks]
@group(0) @binding(3) var<storage, read_write> y: array<Cell>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let number = id.y * groups.x * THREADS + id.x;
    if number >= params.long_rows * params.chunks {
        return;
    }
    let long_row = long_rows[number / params.chunks];
    let chunk = number % params.chunks;
    var sum = Cell();
    for (var segment = 0u; segment < long_row.segments; segment++) {
        sum += segment_sums[(long_row.first + segment) * params.chunks + chunk];
    }
    let place = long_row.row * params.chunks + chunk;
    var result = params.alpha * sum;
    if params.beta != 0.0 {
        result += params.beta * y[place];
    }
    y[place] = result;
}
