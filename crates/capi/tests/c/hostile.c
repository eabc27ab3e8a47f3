/*
 * What callers do wrong, or change behind the library's back: every mistake is an error with a text, and no memory is
 * touched that is not the layer's. Run it under valgrind or with -fsanitize=address to see the second half. C and C++.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ortho.h"

static int failures = 0;

static void check_at(int line, int holds, const char *text)
{
    if (!holds) {
        fprintf(stderr, "line %d: %s (last error: %s)\n", line, text, orth_last_error());
        failures++;
    }
}
#define CHECK(condition) check_at(__LINE__, (condition) ? 1 : 0, #condition)
/* The call fails, and says this. */
#define REFUSED(call, word) \
    check_at(__LINE__, (call) == -1 && strstr(orth_last_error(), word) != NULL, #call " says " word)

enum { N = 70, M = 33, BATCH = 3 };
static float input[BATCH * N], output[BATCH * M];

static int forward(const orth_layer_t *layer) { return orth_layer_forward(layer, input, output, BATCH); }

/* A layer of ones: codes 1, scales 1, no sparse part. */
static orth_layer_t ones(size_t in_features, size_t out_features)
{
    orth_layer_t layer;
    CHECK(orth_layer_init(&layer, in_features, out_features, 4) == 0);
    memset(layer.base.q_weight, 0x11, (in_features * out_features + 1) / 2);
    for (size_t row = 0; row < out_features; row++) {
        ((float *)layer.base.q_scales)[row] = 1.0f;
    }
    return layer;
}

/* ones, and 2 at the first column of every row. */
static orth_layer_t twos(void)
{
    orth_layer_t layer = ones(N, M);
    CHECK(orth_layer_alloc_ortho_csr(&layer, M, M) == 0);
    for (int row = 0; row < M; row++) {
        layer.ortho.row_ptr[row + 1] = row + 1;
        layer.ortho.values[row] = 2.0f;
    }
    CHECK(orth_layer_validate(&layer) == 0);
    return layer;
}

static void null_and_double_free(void)
{
    float x = 0.0f;
    orth_layer_free(NULL);
    orth_layer_free_ortho(NULL);
    orth_layer_set_alpha(NULL, 1.0f);
    REFUSED(orth_layer_init(NULL, 4, 4, 4), "NULL");
    REFUSED(orth_layer_alloc_ortho(NULL, 1), "NULL");
    REFUSED(orth_layer_alloc_ortho_csr(NULL, 1, 1), "NULL");
    REFUSED(orth_layer_alloc_ortho_coo32(NULL, 1), "NULL");
    REFUSED(orth_layer_forward(NULL, &x, &x, 1), "NULL");
    REFUSED(orth_layer_forward_cuda(NULL, &x, &x, 1), "NULL");
    REFUSED(orth_layer_validate(NULL), "NULL");

    orth_layer_t layer = twos(), copy = layer;
    REFUSED(orth_layer_forward(&layer, NULL, output, 1), "input is NULL");
    REFUSED(orth_layer_forward(&layer, input, NULL, 1), "output is NULL");
    CHECK(orth_layer_forward(&layer, NULL, NULL, 0) == 0);
    orth_layer_free_ortho(&layer);
    orth_layer_free_ortho(&layer);
    CHECK(forward(&layer) == 0);
    REFUSED(forward(&copy), "freed already");
    orth_layer_free(&layer);
    orth_layer_free(&layer);
    orth_layer_free(&copy);
    REFUSED(forward(&copy), "empty");
    REFUSED(forward(&layer), "empty");
}

static void rubbish(void)
{
    orth_layer_t layer;
    for (int byte = 1; byte < 256; byte += 50) {
        memset(&layer, byte, sizeof layer);
        CHECK(forward(&layer) == -1);
        CHECK(orth_layer_validate(&layer) == -1);
        orth_layer_free_ortho(&layer);
        memset(&layer, byte, sizeof layer);
        orth_layer_free(&layer);
    }
    /* Pointers into the middle of a buffer, or to the caller's own. */
    layer = twos();
    orth_layer_t other = layer;
    other.ortho.values = layer.ortho.values + 1;
    REFUSED(forward(&other), "ortho.values");
    other = layer;
    other.base.q_weight = input;
    REFUSED(forward(&other), "base.q_weight");
    orth_layer_free(&layer);
}

static void sizes(void)
{
    orth_layer_t layer;
    REFUSED(orth_layer_init(&layer, 0, 4, 4), "empty");
    REFUSED(orth_layer_init(&layer, 4, 4, 3), "q_bits is 3");
    REFUSED(orth_layer_init(&layer, SIZE_MAX / 2, SIZE_MAX / 2, 4), "out of memory");
    REFUSED(orth_layer_init(&layer, SIZE_MAX / 64, 32, 8), "out of memory");
#ifndef __SANITIZE_ADDRESS__ /* which ends a program that asks for so much */
    REFUSED(orth_layer_init(&layer, (size_t)1 << 50, (size_t)1 << 9, 8), "out of memory");
#endif

    layer = twos();
    REFUSED(orth_layer_alloc_ortho_csr(&layer, SIZE_MAX, M), "values");
    REFUSED(orth_layer_alloc_ortho_csr(&layer, 1, SIZE_MAX), "out of memory");
    CHECK(forward(&layer) == 0); /* a failed allocation leaves the old sparse part */
    REFUSED(orth_layer_forward(&layer, input, output, SIZE_MAX / 8), "no memory holds");
    REFUSED(orth_layer_forward(&layer, input, input + N, 2), "overlap");

    orth_layer_t wrong = layer;
    wrong.base.out_features = M + 1;
    REFUSED(forward(&wrong), "bytes");
    wrong = layer;
    wrong.base.in_features = 1 << 20;
    REFUSED(forward(&wrong), "bytes");
    wrong = layer;
    wrong.base.in_features = SIZE_MAX;
    REFUSED(forward(&wrong), "no memory holds");
    wrong = layer;
    wrong.base.q_bits = 8;
    REFUSED(forward(&wrong), "base.q_weight holds");
    wrong = layer;
    wrong.ortho.count = 1 << 20;
    REFUSED(forward(&wrong), "bytes");
    wrong = layer;
    wrong.ortho.count = -1;
    REFUSED(forward(&wrong), "count is -1");
    wrong = layer;
    wrong.ortho.format = 7;
    REFUSED(forward(&wrong), "format is 7");
    wrong = layer;
    wrong.ortho.format = ORTH_FORMAT_COO;
    REFUSED(forward(&wrong), "ortho.indices is NULL");
    wrong = layer;
    wrong.alpha = NAN;
    REFUSED(forward(&wrong), "alpha");
    /* A row_ptr that was allocated for fewer rows. */
    CHECK(orth_layer_alloc_ortho_csr(&layer, 4, M - 20) == 0);
    REFUSED(forward(&layer), "ortho.row_ptr holds");
    orth_layer_free(&layer);
}

static void changes_between_two_calls(void)
{
    for (int i = 0; i < BATCH * N; i++) {
        input[i] = 1.0f;
    }
    orth_layer_t layer = twos();
    CHECK(forward(&layer) == 0 && output[0] == N + 2 && output[BATCH * M - 1] == N + 2);

    layer.ortho.values[0] = 5.0f;
    input[N - 1] = 3.0f;
    CHECK(forward(&layer) == 0 && output[0] == N + 2 + 5);
    layer.ortho.col_indices[0] = N - 1;
    CHECK(forward(&layer) == 0 && output[0] == N + 2 + 15);
    ((uint8_t *)layer.base.q_weight)[0] = 0xF1; /* codes 1 and -1 */
    CHECK(forward(&layer) == 0 && output[0] == N + 15);
    layer.ortho.row_ptr[1] = 0; /* the first value is the second row's now */
    CHECK(forward(&layer) == 0 && output[0] == N && output[1] == N + 2 + 15 + 2);

    const int32_t bad[] = {N, -1, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 4; i++) {
        memset(output, 7, sizeof output);
        layer.ortho.col_indices[M - 1] = bad[i];
        REFUSED(forward(&layer), "column");
        CHECK(((unsigned char *)output)[0] == 7); /* nothing was written */
        layer.alpha = 0.0f;
        CHECK(forward(&layer) == 0); /* alpha 0 does not look at the sparse part, */
        CHECK(orth_layer_validate(&layer) == -1); /* but this does */
        layer.alpha = 1.0f;
        layer.ortho.col_indices[M - 1] = 0;
        CHECK(forward(&layer) == 0);
        for (int at = 0; at <= M; at += M / 3) {
            int32_t old = layer.ortho.row_ptr[at];
            layer.ortho.row_ptr[at] = bad[i];
            REFUSED(forward(&layer), "row pointer");
            layer.ortho.row_ptr[at] = old;
        }
    }
    layer.ortho.count = M - 1;
    REFUSED(forward(&layer), "number of entries");
    layer.ortho.count = 0; /* off, and on again */
    CHECK(forward(&layer) == 0 && output[2] == N + 2);
    layer.ortho.count = M;
    CHECK(forward(&layer) == 0 && output[2] == N + 4);
    orth_layer_free(&layer);

    layer = ones(N, M);
    CHECK(orth_layer_alloc_ortho_csr(&layer, 0, M) == 0 && forward(&layer) == 0 && output[0] == N + 2);
    CHECK(orth_layer_alloc_ortho(&layer, 0) == 0 && forward(&layer) == 0 && output[0] == N + 2);
    CHECK(orth_layer_alloc_ortho_coo32(&layer, 0) == 0 && forward(&layer) == 0 && output[0] == N + 2);
    orth_layer_free(&layer);
}

static void triplets(void)
{
    for (int i = 0; i < BATCH * N; i++) {
        input[i] = (float)(i % N);
    }
    const float base = N * (N - 1) / 2.0f;
    orth_layer_t layer = ones(N, M);
    CHECK(orth_layer_alloc_ortho(&layer, 4) == 0 && layer.ortho.format == ORTH_FORMAT_COO);
    const uint16_t places[] = {2 * N + 5, 0 * N + 3, 2 * N + 5, (M - 1) * N + N - 1}; /* one of them twice */
    for (int i = 0; i < 4; i++) {
        layer.ortho.indices[i] = places[i];
        layer.ortho.values[i] = (float)(i + 1);
    }
    for (int again = 0; again < 2; again++) {
        CHECK(forward(&layer) == 0 && output[0] == base + 2 * 3 && output[1] == base);
        CHECK(output[2] == base + (1 + 3) * 5 && output[BATCH * M - 1] == base + 4 * (N - 1));
    }
    layer.ortho.values[0] = -3.0f;
    CHECK(forward(&layer) == 0 && output[2] == base);
    layer.ortho.indices[0] = 1 * N + 1;
    CHECK(forward(&layer) == 0 && output[1] == base - 3 && output[2] == base + 15);
    layer.ortho.indices[0] = M * N;
    REFUSED(forward(&layer), "outside");
    layer.ortho.indices[0] = UINT16_MAX;
    REFUSED(orth_layer_validate(&layer), "outside");

    CHECK(orth_layer_alloc_ortho_coo32(&layer, 2) == 0 && layer.ortho.format == ORTH_FORMAT_COO32);
    layer.ortho.row_ptr[0] = M - 1;
    layer.ortho.col_indices[0] = 7;
    layer.ortho.values[0] = 2.0f;
    CHECK(forward(&layer) == 0 && output[M - 1] == base + 14 && output[0] == base);
    layer.ortho.row_ptr[1] = M;
    REFUSED(forward(&layer), "row 33");
    layer.ortho.row_ptr[1] = -1;
    REFUSED(forward(&layer), "row -1");
    orth_layer_free(&layer);

    layer = ones(256, 257);
    REFUSED(orth_layer_alloc_ortho(&layer, 4), "orth_layer_alloc_ortho_csr");
    CHECK(orth_layer_alloc_ortho_coo32(&layer, 4) == 0);
    orth_layer_free(&layer);
    layer = ones(256, 256); /* 65,536 elements still fit */
    CHECK(orth_layer_alloc_ortho(&layer, 1) == 0);
    layer.ortho.indices[0] = UINT16_MAX;
    CHECK(orth_layer_validate(&layer) == 0);
    orth_layer_free(&layer);
}

static void memory_of_the_callers(void)
{
    float *values = (float *)malloc(M * sizeof(float));
    if (values == NULL) {
        exit(1);
    }
    orth_layer_t layer = twos();
    float *old = layer.ortho.values;
    for (int i = 0; i < M; i++) {
        values[i] = 10.0f;
    }
    layer.ortho.values = values;
    REFUSED(forward(&layer), "orth_buffer_lend");
    CHECK(orth_buffer_lend(values, M * sizeof(float)) == 0);
    for (int i = 0; i < BATCH * N; i++) {
        input[i] = 1.0f;
    }
    CHECK(forward(&layer) == 0 && output[0] == N + 10);
    layer.ortho.values = old;
    CHECK(forward(&layer) == 0 && output[0] == N + 2);
    layer.ortho.values = values;
    orth_layer_free_ortho(&layer); /* leaves lent memory alone, and does not see `old` any more */
    CHECK(orth_buffer_return(values) == 0);
    REFUSED(orth_buffer_return(values), "buffer");
    layer.ortho.values = old;
    orth_layer_free(&layer);
    free(values);
}

static void other_widths_and_threads(void)
{
    orth_layer_t layer;
    CHECK(orth_layer_init(&layer, 65, 3, 8) == 0);
    int8_t *codes = (int8_t *)layer.base.q_weight;
    for (int i = 0; i < 65 * 3; i++) {
        codes[i] = -128;
    }
    ((float *)layer.base.q_scales)[2] = 0.5f;
    CHECK(orth_set_threads(2) == 0);
    CHECK(orth_layer_forward(&layer, input, output, 1) == 0 && output[0] == 0.0f && output[2] == -64.0f * 65);
    REFUSED(orth_set_threads(-1), "-1 threads");
    CHECK(orth_set_threads(1) == 0);
    orth_layer_free(&layer);
}

static void devices_and_files(void)
{
    CHECK(strcmp(residua_version(), "") != 0 && residua_last_error() == orth_last_error());
    CHECK(residua_backend_open(NULL, 1, 0) == NULL);
    CHECK(residua_backend_open("abacus", 1, 0) == NULL && strstr(residua_last_error(), "abacus") != NULL);
    CHECK(residua_file_open("no such file") == NULL && strstr(residua_last_error(), "no such file") != NULL);
    residua_backend_t *cpu = residua_backend_open("cpu", 1, 0);
    CHECK(cpu != NULL && strncmp(residua_backend_device(cpu), "cpu", 3) == 0);
    CHECK(residua_layer_open(NULL, "x", cpu) == NULL);
    CHECK(residua_layer_forward(NULL, 1.0f, input, output, 1) == -1);
    CHECK(residua_layer_forward((residua_layer_t *)cpu, 1.0f, input, output, 1) == -1);
    CHECK(residua_backend_close(cpu) == 0 && residua_backend_close(cpu) == -1);
    CHECK(residua_backend_device(cpu) == NULL && residua_file_close(NULL) == 0);

    orth_layer_t layer = twos();
    if (!check_tensor_core_support()) {
        CHECK(strlen(orth_last_error()) > 0);
    }
    if (orth_layer_forward_cuda(&layer, input, output, BATCH) != 0) {
        printf("cuda: %s\n", orth_last_error());
        CHECK(strstr(orth_last_error(), "cuda") != NULL || strstr(orth_last_error(), "CUDA") != NULL);
    }
    orth_layer_free(&layer);
}

int main(void)
{
    null_and_double_free();
    rubbish();
    sizes();
    changes_between_two_calls();
    triplets();
    memory_of_the_callers();
    other_widths_and_threads();
    devices_and_files();
    if (failures == 0) {
        puts("hostile: ok");
    }
    return failures != 0;
}
