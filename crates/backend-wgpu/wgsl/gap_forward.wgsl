// Written by `cargo xtask kernels` from kernels/wgsl; change it there.
// The fused layer y = base * x + alpha * (residual * x), for the rows of one slice of the residual.
//
// First each team of lanes sums its row of the residual. Then all threads of the workgroup together multiply the
// slice's rows of the base, four at a time: each value of x serves four rows. base_codes.wgsl or base_floats.wgsl
// decodes the base.

// Chunks of the batch for one workgroup, a power of two, at most 4. THREADS is a power of two, at least 64 * CHUNKS.
override CHUNKS: u32;

struct Params {
    alpha: f32,
    // Cells in one row of x and y.
    chunks: u32,
    first_chunk: u32,
    slices: u32,
    cols: u32,
    // `base` holds the rows from first_row to before end_row.
    first_row: u32,
    end_row: u32,
    // Words of `base` in one row.
    words: u32,
    // Scales in one row, and words that share a scale. Only base_codes.wgsl reads them.
    groups: u32,
    group_words: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

// alpha times the residual's product, for every team and chunk.
var<workgroup> residual: array<Cell, 256>;

// Whether this dispatch writes the team's row. For a long row the team of its first segment does.
fn writes(team: Team) -> bool {
    let owner = team.part == WHOLE || (team.part & FIRST_SEGMENT) != 0u;
    return owner && team.row >= params.first_row && team.row < params.end_row;
}

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
    let own_chunk = params.first_chunk + group.z * CHUNKS + index % CHUNKS;
    // Threads beyond the batch repeat its last chunk and write nothing.
    let chunk = min(own_chunk, params.chunks - 1u);
    var sum = Cell();
    if params.alpha != 0.0 {
        if lane < LANES {
            sum = lane_sum(slice, lane, chunk, params.chunks);
        }
        sum = team_sum(sum, thread, slice.team, CHUNKS);
    }
    if lane < LANES && lane % slice.team == 0u {
        let team = read_team(slice, lane / slice.team);
        var added = Cell();
        if team.row != NO_ROW {
            if team.part == WHOLE {
                added = params.alpha * (team.scale * sum);
            } else if own_chunk < params.chunks {
                let segment = (team.part & ~FIRST_SEGMENT) - 1u;
                segment_sums[segment * params.chunks + chunk] = team.scale * sum;
            }
        }
        residual[(lane / slice.team) * CHUNKS + index % CHUNKS] = added;
    }
    workgroupBarrier();

    let per_word = base_per_word();
    for (var first = 0u; first < LANES / slice.team; first += 4u) {
        // Rows as this dispatch counts them: 0 is the first one in `base`.
        var row: array<u32, 4>;
        var start: array<u32, 4>;
        var writing: array<bool, 4>;
        for (var i = 0u; i < 4u; i++) {
            let exists = first + i < LANES / slice.team;
            let team = read_team(slice, select(first, first + i, exists));
            writing[i] = exists && writes(team);
            row[i] = select(0u, team.row - params.first_row, writing[i]);
            start[i] = row[i] * params.words;
        }
        var sum0 = Cell();
        var sum1 = Cell();
        var sum2 = Cell();
        var sum3 = Cell();
        for (var word = lane; word < params.words; word += THREADS / CHUNKS) {
            let packed0 = base[start[0] + word];
            let packed1 = base[start[1] + word];
            let packed2 = base[start[2] + word];
            let packed3 = base[start[3] + word];
            var word0 = Cell();
            var word1 = Cell();
            var word2 = Cell();
            var word3 = Cell();
            for (var i = 0u; i < per_word; i++) {
                let column = word * per_word + i;
                // The padding of a row is no entry.
                let inside = column < params.cols;
                let value = select(Cell(), x[select(0u, column, inside) * params.chunks + chunk], inside);
                word0 += base_value(packed0, i) * value;
                word1 += base_value(packed1, i) * value;
                word2 += base_value(packed2, i) * value;
                word3 += base_value(packed3, i) * value;
            }
            sum0 += base_scale(row[0], word) * word0;
            sum1 += base_scale(row[1], word) * word1;
            sum2 += base_scale(row[2], word) * word2;
            sum3 += base_scale(row[3], word) * word3;
        }
        let threads = THREADS / CHUNKS;
        sum0 = team_sum(sum0, thread, threads, CHUNKS);
        sum1 = team_sum(sum1, thread, threads, CHUNKS);
        sum2 = team_sum(sum2, thread, threads, CHUNKS);
        sum3 = team_sum(sum3, thread, threads, CHUNKS);
        // Every thread has all four sums. Each of the first four lanes writes one.
        if lane < 4u && own_chunk < params.chunks && writing[lane] {
            let total = select(select(sum0, sum1, lane == 1u), select(sum2, sum3, lane == 3u), lane >= 2u);
            let added = residual[(first + lane) * CHUNKS + index % CHUNKS];
            y[(params.first_row + row[lane]) * params.chunks + own_chunk] = total + added;
        }
    }
}
