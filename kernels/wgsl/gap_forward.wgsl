// The fused layer y = base * x + alpha * (residual * x), for a slice of the residual and the rows in it.
//
// First each team of lanes sums its row of the residual, then all threads of the workgroup together multiply
// the slice's rows of the base, four at a time, so that each value of x that is read serves four rows.

// Chunks of the batch that a workgroup works on; THREADS is at least 64 times as many, both powers of two.
override CHUNKS: u32;
// Bits of a code of the base: 4 or 8.
override CODE_BITS: u32;

struct Params {
    alpha: f32,
    // Cells of one row of x and y.
    chunks: u32,
    first_chunk: u32,
    slices: u32,
    cols: u32,
    // Rows of the matrix that `codes` holds, first to before end.
    first_row: u32,
    end_row: u32,
    // Words of codes and scales of a row of the base.
    words: u32,
    groups: u32,
    // Words of codes that share a scale.
    group_words: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// Codes in two's complement, the first column in the lowest bits, each row in whole words.
@group(0) @binding(6) var<storage, read> codes: array<u32>;
@group(0) @binding(7) var<storage, read> scales: array<f32>;

// alpha times the residual's product, of every team and chunk; CHUNKS is at most 4.
var<workgroup> residual: array<Cell, 256>;

// Whether this dispatch writes the row of a team: of a long row's segments the first one's team does.
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

    let per_word = 32u / CODE_BITS;
    for (var first = 0u; first < LANES / slice.team; first += 4u) {
        var row: array<u32, 4>;
        var start: array<u32, 4>;
        var writing: array<bool, 4>;
        for (var i = 0u; i < 4u; i++) {
            let exists = first + i < LANES / slice.team;
            let team = read_team(slice, select(first, first + i, exists));
            writing[i] = exists && writes(team);
            row[i] = select(params.first_row, team.row, writing[i]);
            start[i] = (row[i] - params.first_row) * params.words;
        }
        var sum0 = Cell();
        var sum1 = Cell();
        var sum2 = Cell();
        var sum3 = Cell();
        for (var word = lane; word < params.words; word += THREADS / CHUNKS) {
            let code0 = i32(codes[start[0] + word]);
            let code1 = i32(codes[start[1] + word]);
            let code2 = i32(codes[start[2] + word]);
            let code3 = i32(codes[start[3] + word]);
            var word0 = Cell();
            var word1 = Cell();
            var word2 = Cell();
            var word3 = Cell();
            for (var i = 0u; i < per_word; i++) {
                let column = word * per_word + i;
                // The padding of a row is no entry.
                let inside = column < params.cols;
                let value = select(Cell(), x[select(0u, column, inside) * params.chunks + chunk], inside);
                word0 += f32(extractBits(code0, i * CODE_BITS, CODE_BITS)) * value;
                word1 += f32(extractBits(code1, i * CODE_BITS, CODE_BITS)) * value;
                word2 += f32(extractBits(code2, i * CODE_BITS, CODE_BITS)) * value;
                word3 += f32(extractBits(code3, i * CODE_BITS, CODE_BITS)) * value;
            }
            let scale_group = word / params.group_words;
            sum0 += scales[(row[0] - params.first_row) * params.groups + scale_group] * word0;
            sum1 += scales[(row[1] - params.first_row) * params.groups + scale_group] * word1;
            sum2 += scales[(row[2] - params.first_row) * params.groups + scale_group] * word2;
            sum3 += scales[(row[3] - params.first_row) * params.groups + scale_group] * word3;
        }
        let threads = THREADS / CHUNKS;
        sum0 = team_sum(sum0, thread, threads, CHUNKS);
        sum1 = team_sum(sum1, thread, threads, CHUNKS);
        sum2 = team_sum(sum2, thread, threads, CHUNKS);
        sum3 = team_sum(sum3, thread, threads, CHUNKS);
        // Every thread has all four sums; the first four lanes write one each.
        if lane < 4u && own_chunk < params.chunks && writing[lane] {
            let total = select(select(sum0, sum1, lane == 1u), select(sum2, sum3, lane == 3u), lane >= 2u);
            let added = residual[(first + lane) * CHUNKS + index % CHUNKS];
            y[row[lane] * params.chunks + own_chunk] = total + added;
        }
    }
}
