/*
 * Residua for C and C++: layers of a dense low-precision part and a sparse part,
 *
 *     y = base * x + alpha * (ortho * x)
 *
 * orth_*: layers that the program itself fills. residua_*: layers of container files, on any backend.
 *
 * Every function survives NULL, and every pointer in an orth_layer_t is looked up before it is followed: a layer that
 * was freed, or never set up, gives an error, not a crash. Functions that return int return 0, or -1 on failure;
 * orth_last_error() has the text. "Threads: any" means that threads may call the function at the same time.
 *
 * Made from crates/capi/src by cbindgen; change it there.
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
 `orth_ortho_t.format`: `row_ptr` says where each row of `col_indices` and `values` starts.
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
 both two's complement (-8 to 7); with q_bits 8 a code is an int8_t. Nothing pads a row.
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
 The sparse part. Which arrays are used depends on `format`; the others are NULL.
 */
typedef struct {
  /*
   CSR: out_features + 1 offsets, the first 0, none below the one before, the last `count`. COO32: `count` rows.
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
   Number of values in use; 0 is an empty sparse part, whatever the arrays.
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

 What the struct held before is not looked at; free an initialised layer before you initialise it again.
 Returns 0, or -1 (q_bits other than 4 or 8, a size of 0, out of memory) with the struct untouched.
 Threads: any, on different layers.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t` that nobody else uses meanwhile.
 */
int orth_layer_init(orth_layer_t *layer,
                    size_t in_features,
                    size_t out_features,
                    int q_bits);

/*
 Frees all buffers of a layer and empties the struct.

 NULL, a layer freed already and pointers that are not this library's are left alone.
 Threads: any; a forward that still runs on the layer finishes on the old buffers.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t` that nobody else uses meanwhile.
 */
void orth_layer_free(orth_layer_t *layer);

/*
 Sets alpha: 1 is the whole model, 0 the dense part alone. NULL is left alone.

 Threads: as writing the field yourself.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t` that nobody else uses meanwhile.
 */
void orth_layer_set_alpha(orth_layer_t *layer, float alpha);

/*
 Gives a layer a sparse part of `count` values at 16-bit flat indices, zeroed, for you to fill.

 For layers of at most 65,536 elements; larger ones are refused, for their indices do not fit: use
 orth_layer_alloc_ortho_csr or orth_layer_alloc_ortho_coo32. Order is free; values at one place are summed. An
 earlier sparse part is freed, unless this fails. count 0 is an empty sparse part.
 Returns 0, or -1 with the layer unchanged. Threads: any, on different layers.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t` that nobody else uses meanwhile.
 */
int orth_layer_alloc_ortho(orth_layer_t *layer,
                           size_t count);

/*
 Gives a layer a sparse part of `nnz` values in compressed sparse rows, zeroed, for you to fill.

 out_features is the layer's. row_ptr has out_features + 1 elements, col_indices and values have nnz each. Columns
 of a row may come in any order; values at one place are summed. An earlier sparse part is freed, unless this fails.
 nnz 0 is an empty sparse part.
 Returns 0, or -1 with the layer unchanged. Threads: any, on different layers.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t` that nobody else uses meanwhile.
 */
int orth_layer_alloc_ortho_csr(orth_layer_t *layer,
                               size_t nnz,
                               size_t out_features);

/*
 Gives a layer of any size a sparse part of `count` values at (row, column) pairs, zeroed, for you to fill.

 row_ptr holds the row of each value, col_indices its column, count elements each (format ORTH_FORMAT_COO32).
 Order is free; values at one place are summed. An earlier sparse part is freed, unless this fails.
 Returns 0, or -1 with the layer unchanged. Threads: any, on different layers.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t` that nobody else uses meanwhile.
 */
int orth_layer_alloc_ortho_coo32(orth_layer_t *layer,
                                 size_t count);

/*
 Frees the sparse part of a layer, whatever its format; the layer is the dense part alone then.

 NULL, a part freed already and pointers that are not this library's are left alone.
 Threads: any; a forward that still runs on the layer finishes on the old buffers.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t` that nobody else uses meanwhile.
 */
void orth_layer_free_ortho(orth_layer_t *layer);

/*
 Computes output = base * input + alpha * (ortho * input), input [batch, in_features], output
 [batch, out_features], row-major.

 The layer is checked each time, so what you changed since the last call takes effect, and no content of the struct
 or its buffers makes this read or write outside of them. A COO part is sorted once and again after a change.
 With alpha 0, or an empty sparse part, the sparse part is not looked at.
 Returns 0, or -1 with the output untouched. The same layer and input give the same bits.
 Threads: any number at once, also on one layer, as long as nobody writes to it or its buffers meanwhile.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t`; `input` and `output` are NULL or have as many floats as said above;
 nobody writes to any of them, or to the layer's buffers, meanwhile.
 */
int orth_layer_forward(const orth_layer_t *layer,
                       const float *input,
                       float *output,
                       size_t batch_size);

/*
 Checks a layer as orth_layer_forward does, sparse part included whatever alpha is, without running it.

 Returns 0 when it would run, else -1; orth_last_error says what is wrong and where.
 Threads: as orth_layer_forward.

 What it needs:
 `layer` is NULL or points to an `orth_layer_t`; nobody writes to it, or to its buffers, meanwhile.
 */
int orth_layer_validate(const orth_layer_t *layer);

/*
 Sets the number of threads that a forward uses, for all layers; 0 for as many as the machine offers.

 At the start it is 1: the calling thread. The number does not change results. Returns 0, or -1 when the threads
 cannot be started. Threads: any; calls in progress keep their number.
 */
int orth_set_threads(int threads);

/*
 The text of the calling thread's last failure, "" before the first. Success does not clear it.

 It is valid until the thread's next failure. Threads: each has its own.
 */
const char *orth_last_error(void);

/*
 Allows memory of your own as a layer's buffer, for example mapped weights: put its address into the struct afterwards.

 It must be aligned to 4 bytes, hold `bytes` initialised bytes, and stay until orth_buffer_return; orth_layer_free
 does not free it. Returns 0 or -1. Threads: any.

 What it needs:
 The memory is as said until it is returned.
 */
int orth_buffer_lend(void *buffer,
                     size_t bytes);

/*
 Ends orth_buffer_lend: layers that still point to the memory fail from now on.

 Call it when no forward that uses the memory runs any more. Returns 0, or -1 when it was not lent. Threads: any.
 */
int orth_buffer_return(const void *buffer);

/*
 orth_layer_forward on an NVIDIA GPU; input and output are ordinary memory of this process.

 Compressed rows or COO, whichever the layer holds: converted once, kept on the device until you change the layer.
 Returns 0, or -1 with the output untouched where this build or this machine has no CUDA; orth_last_error says
 which, and what to install. It never falls back to the CPU in silence. Scales must not be negative here.
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

 False where this build or this machine has no CUDA; orth_last_error says which. It speaks of the hardware alone:
 sparse products do not use them. Threads: any.
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

 A file that was split over another checkpoint holds its sparse parts alone. The checkpoint is looked for where it was
 when the file was made; residua_layer_open fails when it is not there. residua_file_open_with_base names it.

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
 Closes a file; NULL is left alone. Layers that were loaded from it stay. Returns 0, or -1 when it is not open.

 Threads: any; calls in progress finish.
 */
int residua_file_close(residua_file_t *file);

/*
 Number of layers in a file; 0 on failure too. Threads: any.
 */
size_t residua_file_layer_count(const residua_file_t *file);

/*
 Name of layer number `index`, valid until the file is closed. NULL on failure. Threads: any.
 */
const char *residua_file_layer_name(const residua_file_t *file, size_t index);

/*
 Sizes of a layer of a file: outputs, inputs and non-zeros of its sparse part. Each pointer may be NULL.

 Returns 0, or -1 when there is no such layer. Threads: any.

 What it needs:
 `name` is NULL or a terminated string; the other pointers are NULL or can be written to.
 */
int residua_file_layer_size(const residua_file_t *file,
                            const char *name,
                            size_t *out_features,
                            size_t *in_features,
                            uint64_t *nnz);

/*
 Opens a backend by name: "cpu", "wgpu", "cuda", one device of them as in "cuda:1", or "auto" for the first that is
 there of cuda, wgpu and cpu.

 threads is for the CPU, 0 for as many as there are. memory_budget is the most bytes that files read for it and
 layers on it may take, 0 for no limit. NULL when the backend is not in this build or not on this machine;
 residua_last_error says which, and what to install. Threads: any.

 What it needs:
 `name` is NULL or a terminated string.
 */
residua_backend_t *residua_backend_open(const char *name,
                                        int threads,
                                        uint64_t memory_budget);

/*
 What a backend computes on, for people, for example "cpu avx2, 2 threads"; valid until the backend is closed.

 NULL on failure. Threads: any.
 */
const char *residua_backend_device(const residua_backend_t *backend);

/*
 Closes a backend; NULL is left alone. Layers on it keep it going. Returns 0, or -1 when it is not open.

 Threads: any; calls in progress finish.
 */
int residua_backend_close(residua_backend_t *backend);

/*
 Loads a layer of a file onto a backend: its dense part and its sparse part.

 Everything read is validated. NULL on failure, for example when the file was split over another checkpoint and that
 checkpoint is missing or is another one. Threads: any.

 What it needs:
 `name` is NULL or a terminated string.
 */
residua_layer_t *residua_layer_open(const residua_file_t *file,
                                    const char *name,
                                    const residua_backend_t *backend);

/*
 Computes output = base * input + alpha * (sparse * input), input [batch, in_features], output
 [batch, out_features], row-major, in this process's memory. A file of single sparse matrices has only the second term.

 Returns 0, or -1 with the output untouched. Threads: any number at once, also on one layer, with outputs of their
 own.

 What it needs:
 `input` and `output` are NULL or have as many floats as said above, and nobody writes to them meanwhile.
 */
int residua_layer_forward(const residua_layer_t *layer,
                          float alpha,
                          const float *input,
                          float *output,
                          size_t batch_size);

/*
 Frees a layer; NULL is left alone. Returns 0, or -1 when it is not open. Threads: any; calls in progress finish.
 */
int residua_layer_close(residua_layer_t *layer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ORTHO_H */

/*
 * Programs that hold `orth_layer_t *layer` (or an array of one) also write orth_layer_alloc_ortho_csr(&layer, ...):
 * a pointer to the pointer, or to the array, stands for the layer.
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
