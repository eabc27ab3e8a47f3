// As many GPU kernels do: a workgroup of 64 threads for each row of gaps. A prefix sum over the gaps in workgroup
// memory gives the columns. Rows have no fillers here.

@group(0) @binding(0) var<storage, read> row_ptr: array<u32>;
// One gap in a word: unpacking bytes is not compared here.
@group(0) @binding(1) var<storage, read> gaps: array<u32>;
@group(0) @binding(2) var<storage, read> values: array<f32>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

var<workgroup> scanned: array<u32, 64>;
var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let end = row_ptr[group.x + 1u];
    var column = 0xffffffffu;
    var sum = 0.0;
    for (var first = row_ptr[group.x]; first < end; first += 64u) {
        let entry = first + thread;
        var own = 0u;
        if entry < end {
            own = gaps[entry];
        }
        scanned[thread] = own;
        workgroupBarrier();
        for (var distance = 1u; distance < 64u; distance = distance * 2u) {
            var before = 0u;
            if thread >= distance {
                before = scanned[thread - distance];
            }
            workgroupBarrier();
            scanned[thread] += before;
            workgroupBarrier();
        }
        if entry < end {
            sum += values[entry] * x[column + scanned[thread]];
        }
        column += scanned[63];
        workgroupBarrier();
    }
    sums[thread] = sum;
    workgroupBarrier();
    for (var distance = 32u; distance > 0u; distance = distance / 2u) {
        if thread < distance {
            sums[thread] += sums[thread + distance];
        }
        workgroupBarrier();
    }
    if thread == 0u {
        y[group.x] = sums[0];
    }
}
