// Runs kernels on the processor. The blocks of a grid run one after another. The threads of a block are fibers that switch
// where they exchange values or wait. If lanes do not meet, the launch fails and names them.

#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>

// Fake stacks for every fiber of every block would take a hundred times as long as the kernels.
extern "C" const char* __asan_default_options() { return "detect_stack_use_after_return=0"; }
#endif

namespace residua {

thread_local Running running;

namespace {

constexpr unsigned LANES = 32, MOST_THREADS = 1024;
constexpr size_t STACK = 64 << 10;

enum State { READY, AT_EXCHANGE, AT_WARP, AT_BLOCK, DONE };
const char* const NAMES[] = {"run", "exchange values", "wait for their warp", "wait for their block", "have ended"};

struct Fiber {
    void* stack_pointer;
    State state;
    unsigned parity;  // which of the two slots it writes next
    void* fake_stack;
};

struct Machine {
    char* stacks;
    Fiber fibers[MOST_THREADS];
    uint32_t slots[2][MOST_THREADS][MOST_VALUES];
    void* scheduler;
    void* scheduler_fake_stack;
    const void* scheduler_stack;
    size_t scheduler_stack_size;
    Body body;
    void** arguments;
};

thread_local Machine* machine;
Entry* entries;

}  // namespace

// Saves the callee-saved registers, stores the stack pointer, and continues from another one.
extern "C" void residua_switch(void** save, void* to);
#if defined(__x86_64__)
asm(R"(
.text
.globl residua_switch
.type residua_switch, @function
residua_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size residua_switch, .-residua_switch
)");
constexpr size_t SAVED = 7, RETURN = 6, END = 1;
#elif defined(__aarch64__)
asm(R"(
.text
.globl residua_switch
.type residua_switch, %function
residua_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size residua_switch, .-residua_switch
)");
constexpr size_t SAVED = 20, RETURN = 11, END = 2;
#else
#error "the emulator knows x86-64 and aarch64"
#endif

namespace {

// Switches from the running fiber to the scheduler. The scheduler resumes the fiber later.
void give_way(State state) {
    Fiber& self = machine->fibers[running.thread.x];
    self.state = state;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(
        state == DONE ? nullptr : &self.fake_stack, machine->scheduler_stack, machine->scheduler_stack_size);
#endif
    residua_switch(&self.stack_pointer, machine->scheduler);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(self.fake_stack, &machine->scheduler_stack, &machine->scheduler_stack_size);
#endif
}

void fiber_main() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &machine->scheduler_stack, &machine->scheduler_stack_size);
#endif
    machine->body(machine->arguments);
    give_way(DONE);
    __builtin_trap();
}

void run(unsigned thread) {
    Fiber& fiber = machine->fibers[thread];
    running.thread.x = thread;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(
        &machine->scheduler_fake_stack, machine->stacks + thread * STACK, STACK);
#endif
    residua_switch(&machine->scheduler, fiber.stack_pointer);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(machine->scheduler_fake_stack, nullptr, nullptr);
#endif
}

void start(unsigned thread) {
    // The first switch pops registers, then the address to continue at. END words are left above: a function expects the
    // stack pointer as a call leaves it.
    void** saved = reinterpret_cast<void**>(machine->stacks + (thread + 1) * STACK) - END - SAVED;
    memset(saved, 0, sizeof(void*) * SAVED);
    saved[RETURN] = reinterpret_cast<void*>(fiber_main);
    machine->fibers[thread] = {saved, READY, 0, nullptr};
}

// If lanes that must do the same do two things: their names. Null if all do the same.
const char* differing(unsigned first, unsigned count, const char** other) {
    State one = machine->fibers[first].state;
    for (unsigned i = first; i < first + count; ++i) {
        if (machine->fibers[i].state != one) {
            *other = NAMES[machine->fibers[i].state];
            return NAMES[one];
        }
    }
    return nullptr;
}

// Runs all lanes of a warp until they wait for the block or have ended.
const char* run_warp(unsigned first, bool reverse, const char** other) {
    for (;;) {
        for (unsigned i = 0; i < LANES; ++i) {
            const unsigned thread = first + (reverse ? LANES - 1 - i : i);
            if (machine->fibers[thread].state == READY) run(thread);
        }
        if (const char* one = differing(first, LANES, other)) return one;
        const State state = machine->fibers[first].state;
        if (state == AT_BLOCK || state == DONE) return nullptr;
        for (unsigned i = 0; i < LANES; ++i) machine->fibers[first + i].state = READY;
    }
}

const char* run_block(unsigned threads, bool reverse, const char** other) {
    for (unsigned i = 0; i < threads; ++i) start(i);
    for (;;) {
        for (unsigned i = 0; i < threads; i += LANES) {
            const char* one = run_warp(reverse ? threads - LANES - i : i, reverse, other);
            if (one) return one;
        }
        if (const char* one = differing(0, threads, other)) return one;
        if (machine->fibers[0].state == DONE) return nullptr;
        for (unsigned i = 0; i < threads; ++i) machine->fibers[i].state = READY;
    }
}

}  // namespace

__attribute__((noinline)) const uint32_t* exchange(const void* values, unsigned count, unsigned source) {
    const unsigned thread = running.thread.x;
    // Two slots take turns: no lane can be two exchanges ahead of another.
    uint32_t(*slots)[MOST_VALUES] = machine->slots[machine->fibers[thread].parity ^= 1];
    memcpy(slots[thread], values, count * sizeof(uint32_t));
    give_way(AT_EXCHANGE);
    return slots[thread / LANES * LANES + source];
}

__attribute__((noinline)) void wait_for_warp() { give_way(AT_WARP); }
__attribute__((noinline)) void wait_for_block() { give_way(AT_BLOCK); }

Entry::Entry(const char* module, const char* kernel, Body body, const size_t* sizes, size_t count)
    : module(module), kernel(kernel), body(body), sizes(sizes), count(count), next(entries) {
    entries = this;
}

}  // namespace residua

using namespace residua;

// Every module registers its kernels. Without these calls the linker would drop the modules. RESIDUA_MODULES(each), which
// build.rs defines, is `each(name)` for every module.
#define RESIDUA_DECLARE(module) void residua_link_##module();
#define RESIDUA_MENTION(module) residua_link_##module();
RESIDUA_MODULES(RESIDUA_DECLARE)

extern "C" {

// Stacks for the threads of a block; null if there is no memory.
void* residua_machine_new() {
    RESIDUA_MODULES(RESIDUA_MENTION)
    void* stacks = mmap(
        nullptr, MOST_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED) return nullptr;
    Machine* made = static_cast<Machine*>(calloc(1, sizeof(Machine)));
    if (made) made->stacks = static_cast<char*>(stacks);
    return made;
}

void residua_machine_free(void* made) {
    munmap(static_cast<Machine*>(made)->stacks, MOST_THREADS * STACK);
    free(made);
}

// The number of parameters of a kernel and the size of each; 0 if there is no such kernel.
size_t residua_kernel_sizes(const char* module, const char* kernel, const size_t** sizes) {
    RESIDUA_MODULES(RESIDUA_MENTION)
    for (const Entry* entry = entries; entry; entry = entry->next) {
        if (!strcmp(entry->module, module) && !strcmp(entry->kernel, kernel)) return *sizes = entry->sizes, entry->count;
    }
    return 0;
}

// Runs a kernel to its end. Returns 0, or 1 and an error in `message`.
int residua_machine_launch(
    void* on, const char* module, const char* kernel, unsigned blocks, unsigned threads, void** arguments,
    const size_t* sizes, size_t count, int reverse, char* message, size_t length) {
    const Entry* entry = entries;
    while (entry && (strcmp(entry->module, module) || strcmp(entry->kernel, kernel))) entry = entry->next;
    if (!entry) return snprintf(message, length, "there is no kernel %s in %s", kernel, module), 1;
    if (threads % LANES || threads == 0 || threads > MOST_THREADS || blocks == 0) {
        return snprintf(message, length, "%s: %u blocks of %u threads", kernel, blocks, threads), 1;
    }
    if (entry->count != count) {
        return snprintf(message, length, "%s takes %zu arguments, not %zu", kernel, entry->count, count), 1;
    }
    for (size_t i = 0; i < count; ++i) {
        if (entry->sizes[i] != sizes[i]) {
            const char* text = "%s: argument %zu has %zu bytes, not %zu";
            return snprintf(message, length, text, kernel, i, entry->sizes[i], sizes[i]), 1;
        }
    }
    machine = static_cast<Machine*>(on);
    machine->body = entry->body;
    machine->arguments = arguments;
    for (unsigned i = 0; i < blocks; ++i) {
        running.block.x = reverse ? blocks - 1 - i : i;
        const char* other = "";
        if (const char* one = run_block(threads, reverse, &other)) {
            snprintf(
                message, length, "%s, block %u: some threads %s while others %s", kernel, running.block.x, one, other);
            return 1;
        }
    }
    return 0;
}
}
