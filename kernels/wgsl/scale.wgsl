// y = beta * y. With beta = 0, y is not read. One thread for each cell.

override THREADS: u32;

struct Params {
    beta: f32,
    cells: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<Cell>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let cell = id.y * groups.x * THREADS + id.x;
    if cell >= params.cells {
        return;
    }
    var result = Cell();
    if params.beta != 0.0 {
        result = params.beta * y[cell];
    }
    y[cell] = result;
}
