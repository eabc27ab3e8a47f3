// Sums over a team of threads through workgroup memory; works with any subgroup size, or none.

override THREADS: u32;

var<workgroup> shared_sums: array<Cell, THREADS>;

struct Thread {
    @builtin(local_invocation_index) index: u32,
}

fn thread_index(thread: Thread) -> u32 {
    return thread.index;
}

// The sum of `own` over the threads that differ from this one in the bits of `stride` to `stride * team / 2`,
// both powers of two. Every thread of the workgroup calls it, with one `team`; all of a team get the sum,
// added up in one order.
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
