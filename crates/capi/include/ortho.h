/*
 * Residua for C and C++: layers of a dense low-precision part and a sparse part,
 *
 *     y = base * x + alpha * (ortho * x)
 *
 * orth_*: layers that the program itself fills. residua_*: layers of container files, on any backend.
 *
 * Every function accepts NULL, and looks up every pointer in an orth_layer_t before it follows it: a layer that was
 * freed, or never set up, causes an error, not a crash. Functions that return int return 0, or -1 on failure;
 * orth_last_error() returns the text. "Threads: any" means that threads may call the function at the same time.
 *
 * cbindgen makes this file from crates/capi/src; change it there.
 */


#ifndef ORTHO_H
#define ORTHO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 `orth_ortho_t.format`: `indices` holds one flat index `row * in_features + col` per value.
 */
#define ORTH_FORMAT_COO 0

/*
 `orth_ortho_t.format`: `row_ptr` holds the start of each row in `col_indices` and `values`.
 */
#define ORTH_FORMAT_CSR 1

/*
 `orth_ortho_t.format`: `row_ptr` holds the row and `col_indices` the column of each value.
 */
#define ORTH_FORMAT_COO32 2

/*
 A place to compute: a processor or a device.
 */
typedef struct residua_backend_t residua_backend_t;

/*
 An open container file.
 */
typedef struct residua_file_t residua_file_t;

/*
 A layer of a file, on a backend.
 */
typedef struct residua_layer_t residua_layer_t;

/*
 The dense part: codes with one scale per row, weight = code * scale.

 Code number row * in_features + col. With q_bits 4 two codes share a byte, the even number in the low nibble,
 both two's complement (-8 to 7); with q_bits 8 a code is an int8_t. Rows have no padding.
 */
typedef struct {
  /*
   (in_features * out_features * q_bits + 7) / 8 bytes of codes.
   */
  void *q_weight;
  /*
   out_features floats.
   */
  void *q_scales;
  /*
   4 or 8.
   */
  int q_bits;
  /*
   Columns.
   */
  size_t in_features;
  /*
   Rows.
   */
  size_t out_features;
} orth_base_t;

/*
 The sparse part. `format` determines the arrays in use; the others are NULL.
 */
typedef struct {
  /*
   CSR: out_features + 1 offsets, the first 0, never decreasing, the last `count`. COO32: `count` rows.
   */
  int32_t *row_ptr;
  /*
   CSR and COO32: `count` columns, 0 to in_features - 1.
   */
  int32_t *col_indices;
  /*
   `count` values; those at one place are summed.
   */
  float *values;
  /*
   COO: `count` flat indices.
   */
  uint16_t *indices;
  /*
   Number of values in use; with 0 the sparse part is empty, and the arrays do not matter.
   */
  int count;
  /*
   Number of values allocated.
   */
  size_t capacity;
  /*
   ORTH_FORMAT_COO, ORTH_FORMAT_CSR or ORTH_FORMAT_COO32.
   */
  int format;
} orth_ortho_t;

/*
 A layer: y = base * x + alpha * (ortho * x).
 */
typedef struct {
  /*
   The dense part.
   */
  orth_base_t base;
  /*
   The sparse part.
   */
  orth_ortho_t ortho;
  /*
   1 is the whole model, 0 the dense part alone; any finite number.
   */
  float alpha;
} orth_layer_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Sets a layer up: zeroed codes and scales, no sparse part, alpha 1.

 The call does not read the struct; free an initialised layer before you initialise it again.
 Returns 0, or -1 (q_bits other than 4 or 8, a size of 0, out of memory) with the struct unchanged.
 Threads: any, on different layers.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t` that nobody else uses during the call.
 */
int orth_layer_init(orth_layer_t *layer, size_t in_features, size_t out_features, int q_bits);

/*
 Frees all buffers of a layer and empties the struct.

 Does nothing to NULL, to a layer that is freed already, and to pointers that are not this library's.
 Threads: any; a forward that still runs on the layer finishes on the old buffers.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t` that nobody else uses during the call.
 */
void orth_layer_free(orth_layer_t *layer);

/*
 Sets alpha: 1 is the whole model, 0 the dense part alone. Does nothing to NULL.

 Threads: the same as writing the field yourself.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t` that nobody else uses during the call.
 */
void orth_layer_set_alpha(orth_layer_t *layer, float alpha);

/*
 Gives a layer a sparse part of `count` values at 16-bit flat indices, zeroed, for you to fill.

 It refuses layers of more than 65,536 elements, because their indices do not fit: use
 orth_layer_alloc_ortho_csr or orth_layer_alloc_ortho_coo32. Values may come in any order; values at one place are
 summed. If it succeeds, it frees an earlier sparse part. count 0 is an empty sparse part.
 Returns 0, or -1 with the layer unchanged. Threads: any, on different layers.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t` that nobody else uses during the call.
 */
int orth_layer_alloc_ortho(orth_layer_t *layer,
                           size_t count);

/*
 Gives a layer a sparse part of `nnz` values in compressed sparse rows, zeroed, for you to fill.

 out_features is the layer's. row_ptr has out_features + 1 elements, col_indices and values have nnz each. Columns
 of a row may come in any order; values at one place are summed. If it succeeds, it frees an earlier sparse part.
 nnz 0 is an empty sparse part.
 Returns 0, or -1 with the layer unchanged. Threads: any, on different layers.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t` that nobody else uses during the call.
 */
int orth_layer_alloc_ortho_csr(orth_layer_t *layer,
                               size_t nnz,
                               size_t out_features);

/*
 Gives a layer of any size a sparse part of `count` values at (row, column) pairs, zeroed, for you to fill.

 row_ptr holds the row of each value, col_indices its column, count elements each (format ORTH_FORMAT_COO32).
 Values may come in any order; values at one place are summed. If it succeeds, it frees an earlier sparse part.
 Returns 0, or -1 with the layer unchanged. Threads: any, on different layers.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t` that nobody else uses during the call.
 */
int orth_layer_alloc_ortho_coo32(orth_layer_t *layer,
                                 size_t count);

/*
 Frees the sparse part of a layer, of any format. Then the layer is the dense part alone.

 Does nothing to NULL, to a part that is freed already, and to pointers that are not this library's.
 Threads: any; a forward that still runs on the layer finishes on the old buffers.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t` that nobody else uses during the call.
 */
void orth_layer_free_ortho(orth_layer_t *layer);

/*
 Computes output = base * input + alpha * (ortho * input), input [batch, in_features], output
 [batch, out_features], row-major.

 Each call checks the layer. So changes since the last call take effect, and no content of the struct or its buffers
 makes this read or write outside of them. It sorts a COO part once, and again after a change.
 With alpha 0, or an empty sparse part, it does not read the sparse part.
 Returns 0, or -1 with the output unchanged. The same layer and input give the same bits.
 Threads: any number at once, also on one layer, if nobody writes to it or its buffers during the calls.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t`; `input` and `output` are NULL or have the numbers of floats above;
 nobody else writes to any of them, or to the layer's buffers, during the call.
 */
int orth_layer_forward(const orth_layer_t *layer,
                       const float *input,
                       float *output,
                       size_t batch_size);

/*
 Does the checks of orth_layer_forward without running the layer. It checks the sparse part for every alpha.

 Returns 0 if the layer would run, else -1; orth_last_error states what is wrong and where.
 Threads: as orth_layer_forward.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t`; nobody writes to it, or to its buffers, during the call.
 */
int orth_layer_validate(const orth_layer_t *layer);

/*
 Sets the number of threads of a forward, for all layers; 0 uses all threads of the machine.

 The default is 1: the calling thread. The number does not change results. Returns 0, or -1 if the threads cannot
 start. Threads: any; calls in progress keep their number.
 */
int orth_set_threads(int threads);

/*
 The text of the calling thread's last failure, "" before the first. Success does not clear it.

 It is valid until the thread's next failure. Threads: each has its own.
 */
const char *orth_last_error(void);

/*
 Allows your own memory as a layer's buffer, for example mapped weights; afterwards put its address into the struct.

 It must be aligned to 4 bytes, hold `bytes` initialised bytes, and stay until orth_buffer_return; orth_layer_free
 does not free it. Returns 0 or -1. Threads: any.

 What it needs:
 The memory stays as described until orth_buffer_return.
 */
int orth_buffer_lend(void *buffer,
                     size_t bytes);

/*
 Ends orth_buffer_lend: layers that still point to the memory fail from now on.

 Call it when no running forward uses the memory. Returns 0, or -1 if the memory was not lent. Threads: any.
 */
int orth_buffer_return(const void *buffer);

/*
 orth_layer_forward on an NVIDIA GPU; input and output are ordinary memory of this process.

 It converts compressed rows or COO once, and keeps them on the device until you change the layer.
 Returns 0, or -1 with the output unchanged if this build or this machine has no CUDA; orth_last_error states
 which, and what to install. It never falls back to the CPU. Scales must not be negative here.
 Threads: as orth_layer_forward.

 What it needs:
 As orth_layer_forward.
 */
int orth_layer_forward_cuda(const orth_layer_t *layer,
                            const float *input,
                            float *output,
                            size_t batch_size);

/*
 Whether the GPU that orth_layer_forward_cuda uses has tensor cores: compute capability 7.0 or newer.

 False if this build or this machine has no CUDA; orth_last_error states which. It describes only the hardware:
 sparse products do not use tensor cores. Threads: any.
 */
bool check_tensor_core_support(void);

/*
 The library's version, for example "0.1.0". Threads: any.
 */
const char *residua_version(void);

/*
 The same as orth_last_error.
 */
const char *residua_last_error(void);

/*
 Opens a container file. NULL on failure. Threads: any.

 A file that was split over another checkpoint holds only the sparse parts. The library looks for the checkpoint at
 the path in the file, if that lies in the file's folder or below. residua_file_open_with_base names another path.
 residua_layer_open fails if the checkpoint was not found.

 What it needs:
 `path` is NULL or a terminated string.
 */
residua_file_t *residua_file_open(const char *path);

/*
 Opens a file that was split over another checkpoint; `base` is that checkpoint: a safetensors file, an index of shards
 or a folder. NULL on failure. Threads: any.

 residua_layer_open compares the hash of each base tensor with the one in the file.

 What it needs:
 `path` and `base` are NULL or terminated strings.
 */
residua_file_t *residua_file_open_with_base(const char *path,
                                            const char *base);

/*
 Closes a file; does nothing to NULL. Its loaded layers stay valid. Returns 0, or -1 if the file is not open.

 Threads: any; calls in progress finish.
 */
int residua_file_close(residua_file_t *file);

/*
 Number of layers in a file; also 0 on failure. Threads: any.
 */
size_t residua_file_layer_count(const residua_file_t *file);

/*
 Name of layer number `index`, valid until the file is closed. NULL on failure. Threads: any.
 */
const char *residua_file_layer_name(const residua_file_t *file, size_t index);

/*
 Sizes of a layer of a file: outputs, inputs and non-zeros of its sparse part. Each pointer may be NULL.

 Returns 0, or -1 if there is no such layer. Threads: any.

 What it needs:
 `name` is NULL or a terminated string; the other pointers are NULL or writable.
 */
int residua_file_layer_size(const residua_file_t *file,
                            const char *name,
                            size_t *out_features,
                            size_t *in_features,
                            uint64_t *nnz);

/*
 Opens a backend by name: "cpu", "wgpu", "cuda", one of their devices such as "cuda:1", or "auto" for the first
 available of cuda, wgpu and cpu.

 threads is for the CPU; 0 uses all threads. memory_budget is the maximum number of bytes for reading files for the
 backend and for its layers; 0 is no limit. Returns NULL if this build or this machine does not have the backend;
 residua_last_error states which, and what to install. Threads: any.

 What it needs:
 `name` is NULL or a terminated string.
 */
residua_backend_t *residua_backend_open(const char *name,
                                        int threads,
                                        uint64_t memory_budget);

/*
 The device of a backend, for people, for example "cpu avx2, 2 threads"; valid until the backend is closed.

 NULL on failure. Threads: any.
 */
const char *residua_backend_device(const residua_backend_t *backend);

/*
 Closes a backend; does nothing to NULL. Its layers stay valid. Returns 0, or -1 if the backend is not open.

 Threads: any; calls in progress finish.
 */
int residua_backend_close(residua_backend_t *backend);

/*
 Loads a layer of a file onto a backend: its dense part and its sparse part.

 It validates everything that it reads. NULL on failure, for example if the file was split over another checkpoint and
 that checkpoint is missing or has other content. Threads: any.

 What it needs:
 `name` is NULL or a terminated string.
 */
residua_layer_t *residua_layer_open(const residua_file_t *file,
                                    const char *name,
                                    const residua_backend_t *backend);

/*
 Computes output = base * input + alpha * (sparse * input), input [batch, in_features], output
 [batch, out_features], row-major, in this process's memory. A file of single sparse matrices has only the second term.

 Returns 0, or -1 with the output unchanged. Threads: any number at once, also on one layer, with different outputs.

 What it needs:
 `input` and `output` are NULL or have the numbers of floats above, and nobody else writes to them during the call.
 */
int residua_layer_forward(const residua_layer_t *layer,
                          float alpha,
                          const float *input,
                          float *output,
                          size_t batch_size);

/*
 Frees a layer; does nothing to NULL. Returns 0, or -1 if it is not open. Threads: any; calls in progress finish.
 */
int residua_layer_close(residua_layer_t *layer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ORTHO_H */

/*
 * Programs that hold `orth_layer_t *layer` (or an array of one) also write orth_layer_alloc_ortho_csr(&layer, ...):
 * the call takes a pointer to the pointer, or to the array, for the layer.
 */
#ifndef ORTHO_POINTERS_TO_LAYERS
#define ORTHO_POINTERS_TO_LAYERS
#if defined(__cplusplus)
extern "C++" {
template <typename Layer>
inline int orth_layer_alloc_ortho_csr(Layer **layer, size_t nnz, size_t out_features)
{
    return orth_layer_alloc_ortho_csr(layer ? *layer : static_cast<Layer *>(0), nnz, out_features);
}
template <typename Layer>
inline int orth_layer_alloc_ortho_csr(Layer (*layer)[1], size_t nnz, size_t out_features)
{
    return orth_layer_alloc_ortho_csr(layer ? *layer : static_cast<Layer *>(0), nnz, out_features);
}
}
#elif defined(__GNUC__) || (defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L)
#if defined(__GNUC__)
#define ORTH_GENERIC __extension__ _Generic
#else
#define ORTH_GENERIC _Generic
#endif
static inline orth_layer_t *orth_layer_behind(orth_layer_t **layer) { return layer ? *layer : NULL; }
#define orth_layer_alloc_ortho_csr(layer, nnz, out_features)                                       \
    orth_layer_alloc_ortho_csr(ORTH_GENERIC((layer),                                               \
        orth_layer_t **: orth_layer_behind((orth_layer_t **)(void *)(layer)),                      \
        orth_layer_t (*)[1]: (orth_layer_t *)(void *)(layer),                                      \
        default: (layer)), (nnz), (out_features))
#endif
#endif
