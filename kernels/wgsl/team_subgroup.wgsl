// Sums over a team of threads by subgroup shuffles as far as subgroups reach, then through workgroup memory.
// The order of additions is that of team_workgroup.wgsl, and so are the bits.

override THREADS: u32;
// The smallest size that a subgroup of this device has, a power of two.
override SUBGROUP: u32;

var<workgroup> shared_sums: array<Cell, THREADS>;

// Threads are counted along subgroups: nothing says that `local_invocation_index` is.
struct Thread {
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) invocation: u32,
}

fn thread_index(thread: Thread) -> u32 {
    return thread.subgroup * thread.size + thread.invocation;
}

// The sum of `own` over the threads that differ from this one in the bits of `stride` to `stride * team / 2`,
// both powers of two. Every thread of the workgroup calls it, with one `team`; all of a team get the sum,
// added up in one order.
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
