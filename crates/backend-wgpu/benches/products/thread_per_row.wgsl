// The plain way: one thread for each row of CSR.

@group(0) @binding(0) var<storage, read> row_ptr: array<u32>;
@group(0) @binding(1) var<storage, read> columns: array<u32>;
@group(0) @binding(2) var<storage, read> values: array<f32>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x + 1u >= arrayLength(&row_ptr) {
        return;
    }
    var sum = 0.0;
    for (var entry = row_ptr[id.x]; entry < row_ptr[id.x + 1u]; entry++) {
        sum += values[entry] * x[columns[entry]];
    }
    y[id.x] = sum;
}
