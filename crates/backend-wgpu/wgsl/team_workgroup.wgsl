// Written by `cargo xtask kernels` from kernels/wgsl; change it there.
// Sums over a team of threads through workgroup memory. Needs no subgroups.

override THREADS: u32;

var<workgroup> shared_sums: array<Cell, THREADS>;

struct Thread {
    @builtin(local_invocation_index) index: u32,
}

fn thread_index(thread: Thread) -> u32 {
    return thread.index;
}

// The sum of `own` over the threads whose index differs from this one's in the bits from `stride` to
// `stride * team / 2`. `stride` and `team` are powers of two. All threads of the workgroup call it with the same
// `team`. All threads of a team get the same bits.
fn team_sum(own: Cell, thread: Thread, team: u32, stride: u32) -> Cell {
    var sum = own;
    for (var distance = stride; distance < stride * team; distance = distance * 2u) {
        shared_sums[thread.index] = sum;
        workgroupBarrier();
        sum = sum + shared_sums[thread.index ^ distance];
        workgroupBarrier();
    }
    return sum;
}
