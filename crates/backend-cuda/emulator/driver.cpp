// A libcuda.so for tests: the functions of NVIDIA's driver that the backend calls, on the processor.
//
// It is stricter than the real one. Work on a stream is delayed until somebody waits, so memory that is freed too early
// is noticed. A call without a current context, with an invalid handle, or outside an allocation is an error. If anything
// is left behind when the last user releases the device, the process ends. The environment holds the settings:
//
//     FAKE_CUDA_VERSION, FAKE_CUDA_DEVICES, FAKE_CUDA_MEMORY   numbers
//     FAKE_CUDA_INIT                                           status of cuInit
//     FAKE_CUDA_REFUSE                                         PTX is refused
//     FAKE_CUDA_FAIL                                           number of the call that fails, among those that can; from 0

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

extern "C" void* residua_machine_new();
extern "C" size_t residua_kernel_sizes(const char* module, const char* kernel, const size_t** sizes);
extern "C" int residua_machine_launch(
    void* on, const char* module, const char* kernel, unsigned blocks, unsigned threads, void** arguments,
    const size_t* sizes, size_t count, int reverse, char* message, size_t length);

// Written by build.rs: hashes of the committed PTX.
struct KnownPtx {
    const char* module;
    uint64_t hash;
};
extern const KnownPtx KNOWN_PTX[];
extern const size_t KNOWN_PTX_COUNT;

namespace {

enum Status {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    UNSUPPORTED_PTX_VERSION = 222,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    LAUNCH_FAILED = 719,
    CAPTURE_UNSUPPORTED = 900,
    UNKNOWN = 999,
};

struct Function {
    std::string module, kernel;
};

// Work of a stream.
struct Operation {
    const Function* launch = nullptr;
    unsigned blocks = 0, threads = 0;
    std::vector<std::vector<uint64_t>> arguments;
    std::vector<size_t> sizes;
    // Without a launch it is a copy, from `bytes` if `from` is null.
    void* to = nullptr;
    const void* from = nullptr;
    std::vector<char> bytes;
    size_t count = 0;
};

struct Stream {
    bool capturing = false;
    std::vector<Operation> queued, captured;
};

struct Graph {
    std::vector<Operation> operations;
};

struct Module {
    std::string name;
    std::map<std::string, Function> functions;
};

struct Context {
    int users = 0;
};

std::recursive_mutex guard;
bool ready = false;
Context context;
thread_local Context* current = nullptr;
std::map<uint64_t, size_t> device_memory, pinned_memory;
std::set<Stream*> streams;
std::set<Graph*> graphs, executables;
std::set<Module*> modules;
uint64_t used = 0;
uint64_t calls = 0;

uint64_t number(const char* name, uint64_t otherwise) {
    const char* text = getenv(name);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}

[[noreturn]] void end(const char* what) {
    fprintf(stderr, "the played driver: %s\n", what);
    abort();
}

// Whether this call must fail. A new number restarts the count.
bool fails() {
    static uint64_t before = ~0ull;
    const uint64_t wanted = number("FAKE_CUDA_FAIL", ~0ull);
    if (wanted != before) calls = 0;
    before = wanted;
    return calls++ == wanted;
}

bool holds(const std::map<uint64_t, size_t>& memory, uint64_t address, size_t bytes) {
    auto after = memory.upper_bound(address);
    if (after == memory.begin()) return false;
    --after;
    return address - after->first + bytes <= after->second;
}

Status run(Operation& operation) {
    if (!operation.launch) {
        memcpy(operation.to, operation.from ? operation.from : operation.bytes.data(), operation.count);
        return SUCCESS;
    }
    static void* machine = residua_machine_new();
    std::vector<void*> pointers;
    for (auto& argument : operation.arguments) pointers.push_back(argument.data());
    char message[256] = {};
    const Function& function = *operation.launch;
    if (residua_machine_launch(
            machine, function.module.c_str(), function.kernel.c_str(), operation.blocks, operation.threads,
            pointers.data(), operation.sizes.data(), pointers.size(), 0, message, sizeof message)) {
        fprintf(stderr, "%s\n", message);
        return LAUNCH_FAILED;
    }
    return SUCCESS;
}

Status drain(Stream* stream) {
    std::vector<Operation> todo;
    todo.swap(stream->queued);
    for (auto& operation : todo) {
        if (Status status = run(operation)) return status;
    }
    return SUCCESS;
}

Status enqueue(Stream* stream, Operation operation) {
    if (stream->capturing && !operation.launch) return CAPTURE_UNSUPPORTED;
    (stream->capturing ? stream->captured : stream->queued).push_back(std::move(operation));
    return SUCCESS;
}

}  // namespace

// All calls share one state and take turns.
#define LOCKED std::lock_guard<std::recursive_mutex> locked(guard)
#define IN_CONTEXT \
    LOCKED;        \
    if (!ready) return NOT_INITIALIZED; \
    if (!current || current->users == 0) return INVALID_CONTEXT
#define CAN_FAIL(status) \
    if (fails()) return status
#define NEEDS(condition, status) \
    if (!(condition)) return status

extern "C" {

int cuInit(unsigned flags) {
    LOCKED;
    NEEDS(flags == 0, INVALID_VALUE);
    const int status = static_cast<int>(number("FAKE_CUDA_INIT", 0));
    ready = status == 0;
    return status;
}

int cuDriverGetVersion(int* version) {
    *version = static_cast<int>(number("FAKE_CUDA_VERSION", 12040));
    return SUCCESS;
}

int cuDeviceGetCount(int* count) {
    NEEDS(ready, NOT_INITIALIZED);
    *count = static_cast<int>(number("FAKE_CUDA_DEVICES", 1));
    return SUCCESS;
}

int cuDeviceGet(int* device, int ordinal) {
    NEEDS(ready, NOT_INITIALIZED);
    NEEDS(ordinal >= 0 && ordinal < static_cast<int>(number("FAKE_CUDA_DEVICES", 1)), INVALID_DEVICE);
    *device = ordinal;
    return SUCCESS;
}

int cuDeviceGetName(char* name, int length, int device) {
    snprintf(name, static_cast<size_t>(length), "Played GPU %d", device);
    return SUCCESS;
}

int cuDeviceGetAttribute(int* value, int attribute, int) {
    // Compute capability 9.0.
    *value = attribute == 75 ? 9 : 0;
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(Context** made, int) {
    LOCKED;
    CAN_FAIL(OUT_OF_MEMORY);
    ++context.users;
    *made = &context;
    return SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int) {
    LOCKED;
    NEEDS(context.users > 0, INVALID_CONTEXT);
    if (--context.users > 0) return SUCCESS;
    if (!device_memory.empty()) end("device memory is left behind");
    if (!pinned_memory.empty()) end("pinned memory is left behind");
    if (!streams.empty()) end("a stream is left behind");
    if (!graphs.empty() || !executables.empty()) end("a graph is left behind");
    if (!modules.empty()) end("a module is left behind");
    return SUCCESS;
}

int cuCtxSetCurrent(Context* wanted) {
    LOCKED;
    NEEDS(wanted == &context && context.users > 0, INVALID_CONTEXT);
    current = wanted;
    return SUCCESS;
}

int cuCtxGetCurrent(Context** found) {
    *found = current;
    return SUCCESS;
}

int cuMemGetInfo_v2(size_t* free, size_t* total) {
    IN_CONTEXT;
    *total = number("FAKE_CUDA_MEMORY", 4ull << 30);
    *free = *total - used;
    return SUCCESS;
}

int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
    IN_CONTEXT;
    NEEDS(bytes > 0, INVALID_VALUE);
    CAN_FAIL(OUT_OF_MEMORY);
    NEEDS(used + bytes <= number("FAKE_CUDA_MEMORY", 4ull << 30), OUT_OF_MEMORY);
    void* at = aligned_alloc(256, (bytes + 255) / 256 * 256);
    NEEDS(at, OUT_OF_MEMORY);
    memset(at, 0xFF, bytes);
    *address = reinterpret_cast<uint64_t>(at);
    device_memory[*address] = bytes;
    used += bytes;
    return SUCCESS;
}

int cuMemFree_v2(uint64_t address) {
    IN_CONTEXT;
    auto found = device_memory.find(address);
    NEEDS(found != device_memory.end(), INVALID_VALUE);
    // The real driver waits for the device.
    for (Stream* stream : streams) {
        if (Status status = drain(stream)) return status;
    }
    used -= found->second;
    device_memory.erase(found);
    free(reinterpret_cast<void*>(address));
    return SUCCESS;
}

int cuMemHostAlloc(void** at, size_t bytes, unsigned) {
    IN_CONTEXT;
    CAN_FAIL(OUT_OF_MEMORY);
    *at = malloc(bytes);
    pinned_memory[reinterpret_cast<uint64_t>(*at)] = bytes;
    return SUCCESS;
}

int cuMemFreeHost(void* at) {
    IN_CONTEXT;
    NEEDS(pinned_memory.erase(reinterpret_cast<uint64_t>(at)), INVALID_VALUE);
    free(at);
    return SUCCESS;
}

int cuMemsetD8Async(uint64_t to, unsigned char value, size_t count, Stream* stream) {
    IN_CONTEXT;
    NEEDS(streams.count(stream), INVALID_HANDLE);
    NEEDS(holds(device_memory, to, count), INVALID_VALUE);
    CAN_FAIL(UNKNOWN);
    Operation operation;
    operation.to = reinterpret_cast<void*>(to);
    operation.bytes.assign(count, static_cast<char>(value));
    operation.count = count;
    return enqueue(stream, std::move(operation));
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t count, Stream* stream) {
    IN_CONTEXT;
    NEEDS(streams.count(stream), INVALID_HANDLE);
    NEEDS(holds(device_memory, to, count), INVALID_VALUE);
    CAN_FAIL(UNKNOWN);
    Operation operation;
    operation.to = reinterpret_cast<void*>(to);
    operation.count = count;
    const char* bytes = static_cast<const char*>(from);
    // Memory that is not pinned is read before the call returns. The real driver does this with a buffer.
    if (holds(pinned_memory, reinterpret_cast<uint64_t>(from), count)) {
        operation.from = from;
    } else {
        operation.bytes.assign(bytes, bytes + count);
    }
    return enqueue(stream, std::move(operation));
}

int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t count, Stream* stream) {
    IN_CONTEXT;
    NEEDS(streams.count(stream), INVALID_HANDLE);
    NEEDS(holds(device_memory, from, count), INVALID_VALUE);
    CAN_FAIL(UNKNOWN);
    Operation operation;
    operation.to = to;
    operation.from = reinterpret_cast<const void*>(from);
    operation.count = count;
    return enqueue(stream, std::move(operation));
}

int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t count, Stream* stream) {
    IN_CONTEXT;
    NEEDS(streams.count(stream), INVALID_HANDLE);
    NEEDS(holds(device_memory, to, count) && holds(device_memory, from, count), INVALID_VALUE);
    CAN_FAIL(UNKNOWN);
    Operation operation;
    operation.to = reinterpret_cast<void*>(to);
    operation.from = reinterpret_cast<const void*>(from);
    operation.count = count;
    return enqueue(stream, std::move(operation));
}

int cuStreamCreate(Stream** made, unsigned flags) {
    IN_CONTEXT;
    // The backend only makes streams that do not wait for the default stream.
    NEEDS(flags == 1, INVALID_VALUE);
    CAN_FAIL(OUT_OF_MEMORY);
    *made = new Stream;
    streams.insert(*made);
    return SUCCESS;
}

int cuStreamDestroy_v2(Stream* stream) {
    IN_CONTEXT;
    NEEDS(streams.count(stream), INVALID_HANDLE);
    if (stream->capturing) end("a stream is destroyed while it is captured");
    drain(stream);
    streams.erase(stream);
    delete stream;
    return SUCCESS;
}

int cuStreamSynchronize(Stream* stream) {
    IN_CONTEXT;
    NEEDS(streams.count(stream), INVALID_HANDLE);
    NEEDS(!stream->capturing, CAPTURE_UNSUPPORTED);
    // A failure that is reported here happened earlier, so the work is done nevertheless.
    const Status status = drain(stream);
    CAN_FAIL(UNKNOWN);
    return status;
}

int cuStreamBeginCapture_v2(Stream* stream, int) {
    IN_CONTEXT;
    NEEDS(streams.count(stream), INVALID_HANDLE);
    NEEDS(!stream->capturing, INVALID_VALUE);
    CAN_FAIL(UNKNOWN);
    stream->capturing = true;
    return SUCCESS;
}

int cuStreamEndCapture(Stream* stream, Graph** made) {
    IN_CONTEXT;
    NEEDS(streams.count(stream), INVALID_HANDLE);
    NEEDS(stream->capturing, INVALID_VALUE);
    stream->capturing = false;
    Graph* graph = new Graph;
    graph->operations.swap(stream->captured);
    if (fails()) {
        delete graph;
        return UNKNOWN;
    }
    graphs.insert(graph);
    *made = graph;
    return SUCCESS;
}

int cuGraphInstantiateWithFlags(Graph** made, Graph* graph, unsigned long long) {
    IN_CONTEXT;
    NEEDS(graphs.count(graph), INVALID_HANDLE);
    CAN_FAIL(OUT_OF_MEMORY);
    *made = new Graph(*graph);
    executables.insert(*made);
    return SUCCESS;
}

int cuGraphLaunch(Graph* executable, Stream* stream) {
    IN_CONTEXT;
    NEEDS(executables.count(executable) && streams.count(stream), INVALID_HANDLE);
    CAN_FAIL(UNKNOWN);
    for (auto& operation : executable->operations) {
        if (Status status = enqueue(stream, operation)) return status;
    }
    return SUCCESS;
}

int cuGraphExecDestroy(Graph* executable) {
    IN_CONTEXT;
    NEEDS(executables.erase(executable), INVALID_HANDLE);
    delete executable;
    return SUCCESS;
}

int cuGraphDestroy(Graph* graph) {
    IN_CONTEXT;
    NEEDS(graphs.erase(graph), INVALID_HANDLE);
    delete graph;
    return SUCCESS;
}

int cuModuleLoadDataEx(Module** made, const void* image, unsigned count, int* options, void** values) {
    IN_CONTEXT;
    CAN_FAIL(OUT_OF_MEMORY);
    const char* text = static_cast<const char*>(image);
    if (getenv("FAKE_CUDA_REFUSE")) {
        // CU_JIT_ERROR_LOG_BUFFER is 5, its size 6.
        if (count == 2 && options[0] == 5 && options[1] == 6) {
            snprintf(
                static_cast<char*>(values[0]), reinterpret_cast<size_t>(values[1]), "%s",
                "ptxas application ptx input, line 9; fatal\n  : Unsupported .version 8.0\n");
        }
        return UNSUPPORTED_PTX_VERSION;
    }
    uint64_t hash = 14695981039346656037ull;  // FNV-1a
    for (const char* c = text; *c; ++c) hash = (hash ^ static_cast<unsigned char>(*c)) * 1099511628211ull;
    for (size_t i = 0; i < KNOWN_PTX_COUNT; ++i) {
        if (KNOWN_PTX[i].hash == hash) {
            *made = new Module{KNOWN_PTX[i].module, {}};
            modules.insert(*made);
            return SUCCESS;
        }
    }
    return INVALID_IMAGE;
}

int cuModuleUnload(Module* module) {
    IN_CONTEXT;
    for (Stream* stream : streams) {
        if (!stream->queued.empty()) end("a module is unloaded while work is queued");
    }
    NEEDS(modules.erase(module), INVALID_HANDLE);
    delete module;
    return SUCCESS;
}

int cuModuleGetFunction(const Function** made, Module* module, const char* name) {
    IN_CONTEXT;
    NEEDS(modules.count(module), INVALID_HANDLE);
    CAN_FAIL(OUT_OF_MEMORY);
    const size_t* sizes;
    NEEDS(residua_kernel_sizes(module->name.c_str(), name, &sizes), NOT_FOUND);
    *made = &(module->functions[name] = Function{module->name, name});
    return SUCCESS;
}

int cuLaunchKernel(
    const Function* function, unsigned blocks, unsigned blocks_y, unsigned blocks_z, unsigned threads, unsigned threads_y,
    unsigned threads_z, unsigned shared, Stream* stream, void** arguments, void** extra) {
    IN_CONTEXT;
    NEEDS(streams.count(stream), INVALID_HANDLE);
    NEEDS(blocks > 0 && blocks_y == 1 && blocks_z == 1 && threads_y == 1 && threads_z == 1, INVALID_VALUE);
    NEEDS(shared == 0 && !extra, INVALID_VALUE);
    CAN_FAIL(UNKNOWN);
    const size_t* sizes;
    const size_t count = residua_kernel_sizes(function->module.c_str(), function->kernel.c_str(), &sizes);
    Operation operation;
    operation.launch = function;
    operation.blocks = blocks;
    operation.threads = threads;
    // Arguments are read before the call returns.
    for (size_t i = 0; i < count; ++i) {
        std::vector<uint64_t> words((sizes[i] + 7) / 8);
        memcpy(words.data(), arguments[i], sizes[i]);
        operation.arguments.push_back(words);
        operation.sizes.push_back(sizes[i]);
    }
    return enqueue(stream, std::move(operation));
}

int cuGetErrorName(int status, const char** name) {
    switch (status) {
        case OUT_OF_MEMORY: return *name = "CUDA_ERROR_OUT_OF_MEMORY", SUCCESS;
        case 100: return *name = "CUDA_ERROR_NO_DEVICE", SUCCESS;
        case UNSUPPORTED_PTX_VERSION: return *name = "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", SUCCESS;
        case UNKNOWN: return *name = "CUDA_ERROR_UNKNOWN", SUCCESS;
        default: return *name = "another status", SUCCESS;
    }
}
}
