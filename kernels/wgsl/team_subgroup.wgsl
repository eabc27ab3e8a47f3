// Sums over a team of threads: subgroup shuffles inside a subgroup, then workgroup memory. Additions have the order
// of team_workgroup.wgsl, so both give the same bits.

override THREADS: u32;
// The smallest subgroup size of this device, a power of two.
override SUBGROUP: u32;

var<workgroup> shared_sums: array<Cell, THREADS>;

// Threads are numbered along subgroups: the specification does not promise that of `local_invocation_index`.
struct Thread {
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) invocation: u32,
}

fn thread_index(thread: Thread) -> u32 {
    return thread.subgroup * thread.size + thread.invocation;
}

// The sum of `own` over the threads whose index differs from this one's in the bits from `stride` to
// `stride * team / 2`. `stride` and `team` are powers of two. All threads of the workgroup call it with the same
// `team`. All threads of a team get the same bits.
fn team_sum(own: Cell, thread: Thread, team: u32, stride: u32) -> Cell {
    var sum = own;
    var distance = stride;
    for (; distance < stride * team && distance < SUBGROUP; distance = distance * 2u) {
        sum = sum + subgroupShuffleXor(sum, distance);
    }
    let index = thread_index(thread);
    for (; distance < stride * team; distance = distance * 2u) {
        shared_sums[index] = sum;
        workgroupBarrier();
        sum = sum + shared_sums[index ^ distance];
        workgroupBarrier();
    }
    return sum;
}
