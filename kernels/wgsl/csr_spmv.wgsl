// y = alpha * A * x + beta * y for a plain CSR A. A row has TEAM threads and is padded to whole quads.

// Threads for one row: a power of two, at most THREADS.
override TEAM: u32;

// The column of an entry that pads a quad.
const NO_COLUMN = 0xffffffffu;

struct Params {
    alpha: f32,
    beta: f32,
    // Rows in these planes, and the number of the first one in the matrix.
    rows: u32,
    first_row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// rows + 1 pointers in quads
@group(0) @binding(1) var<storage, read> row_ptr: array<u32>;
@group(0) @binding(2) var<storage, read> columns: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> x: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

fn term(value: f32, column: u32) -> f32 {
    let padding = column == NO_COLUMN;
    return select(value * x[select(column, 0u, padding)], 0.0, padding);
}

@compute @workgroup_size(THREADS)
fn main(
    thread: Thread,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = thread_index(thread);
    let row = (group.y * groups.x + group.x) * (THREADS / TEAM) + index / TEAM;
    var sum = 0.0;
    if row < params.rows {
        let end = row_ptr[row + 1u];
        for (var quad = row_ptr[row] + index % TEAM; quad < end; quad += TEAM) {
            let column = columns[quad];
            let value = values[quad];
            sum += term(value.x, column.x);
            sum += term(value.y, column.y);
            sum += term(value.z, column.z);
            sum += term(value.w, column.w);
        }
    }
    sum = team_sum(sum, thread, TEAM, 1u);
    if row >= params.rows || index % TEAM != 0u {
        return;
    }
    let place = params.first_row + row;
    var result = params.alpha * sum;
    if params.beta != 0.0 {
        result += params.beta * y[place];
    }
    y[place] = result;
}
