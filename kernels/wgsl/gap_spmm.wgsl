// y = alpha * A * x + beta * y for a gap-encoded A: SpMV with cells of 1, SpMM with cells of 4.
//
// A workgroup has one slice and CHUNKS chunks of the batch. Neighbouring threads have neighbouring chunks.

// Chunks of the batch for one workgroup. THREADS is 64 * CHUNKS.
override CHUNKS: u32;

struct Params {
    alpha: f32,
    beta: f32,
    // Cells in one row of x and y.
    chunks: u32,
    first_chunk: u32,
    slices: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(THREADS)
fn main(
    thread: Thread,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let number = group.y * groups.x + group.x;
    if number >= params.slices {
        return;
    }
    let slice = slices[number];
    let index = thread_index(thread);
    let lane = index / CHUNKS;
    let chunk = params.first_chunk + group.z * CHUNKS + index % CHUNKS;
    // Threads beyond the batch repeat its last chunk and write nothing.
    let own = lane_sum(slice, lane, min(chunk, params.chunks - 1u), params.chunks);
    let sum = team_sum(own, thread, slice.team, CHUNKS);
    let team = read_team(slice, lane / slice.team);
    if lane % slice.team != 0u || chunk >= params.chunks || team.row == NO_ROW {
        return;
    }
    if team.part != WHOLE {
        let segment = (team.part & ~FIRST_SEGMENT) - 1u;
        segment_sums[segment * params.chunks + chunk] = team.scale * sum;
        return;
    }
    let place = team.row * params.chunks + chunk;
    var result = params.alpha * (team.scale * sum);
    // With beta = 0, y is not read: NaN in it vanishes.
    if params.beta != 0.0 {
        result += params.beta * y[place];
    }
    y[place] = result;
}
