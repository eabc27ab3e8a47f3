/*
 * A layer, filled by hand and run at three alphas against plain loops. C and C++: built with gcc and g++, -Wall -Wextra
 * -Werror.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ortho.h"

enum { INPUTS = 192, OUTPUTS = 96, PER_ROW = 10, BATCH = 5 };

static uint32_t state = 42;

/* From -1 to 1. */
static float next_float(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static int next_int(int below)
{
    state = state * 1664525u + 1013904223u;
    return (int)((state >> 8) % (uint32_t)below);
}

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, orth_last_error());
    exit(1);
}

/* The low nibble of a byte is the even code; both are two's complement. */
static int code(const orth_layer_t *layer, size_t row, size_t column)
{
    size_t at = row * layer->base.in_features + column;
    int nibble = ((const uint8_t *)layer->base.q_weight)[at / 2] >> (4 * (at % 2)) & 15;
    return nibble < 8 ? nibble : nibble - 16;
}

/* The layer in double precision; *magnitude is the sum of what was added up, without signs. */
static double expected(const orth_layer_t *layer, size_t row, const float *x, double *magnitude)
{
    double sum = 0.0, scale = ((const float *)layer->base.q_scales)[row];
    *magnitude = 0.0;
    for (size_t column = 0; column < layer->base.in_features; column++) {
        double term = code(layer, row, column) * scale * x[column];
        sum += term;
        *magnitude += fabs(term);
    }
    for (int32_t at = layer->ortho.row_ptr[row]; at < layer->ortho.row_ptr[row + 1]; at++) {
        double term = (double)layer->alpha * layer->ortho.values[at] * x[layer->ortho.col_indices[at]];
        sum += term;
        *magnitude += fabs(term);
    }
    return sum;
}

static void fill_base(orth_layer_t *layer)
{
    uint8_t *codes = (uint8_t *)layer->base.q_weight;
    float *scales = (float *)layer->base.q_scales;
    for (size_t at = 0; at < (size_t)INPUTS * OUTPUTS / 2; at++) {
        codes[at] = (uint8_t)next_int(256);
    }
    for (size_t row = 0; row < OUTPUTS; row++) {
        scales[row] = 0.05f + 0.05f * next_float();
    }
}

static void fill_rows(orth_layer_t *layer)
{
    int32_t at = 0;
    for (size_t row = 0; row < OUTPUTS; row++) {
        layer->ortho.row_ptr[row] = at;
        for (int i = 0; i < PER_ROW; i++, at++) {
            layer->ortho.col_indices[at] = i * (INPUTS / PER_ROW) + next_int(INPUTS / PER_ROW);
            layer->ortho.values[at] = next_float();
        }
    }
    layer->ortho.row_ptr[OUTPUTS] = at;
}

static void compare(const orth_layer_t *layer, const float *input, const float *output)
{
    for (size_t vector = 0; vector < BATCH; vector++) {
        for (size_t row = 0; row < OUTPUTS; row++) {
            double magnitude, wanted = expected(layer, row, input + vector * INPUTS, &magnitude);
            double found = output[vector * OUTPUTS + row];
            /* A float sum of n terms is off by at most about n * 2^-24 of their magnitudes. */
            double allowed = (INPUTS + PER_ROW + 4) * 0x1p-24 * magnitude;
            if (!(fabs(found - wanted) <= allowed)) {
                fprintf(stderr, "alpha %g, vector %zu, row %zu: %.9g instead of %.9g\n", (double)layer->alpha,
                        vector, row, found, wanted);
                exit(1);
            }
        }
    }
}

/* The usage of the documentation that this interface comes from, word for word, on a pointer to a layer. */
static void documented_usage(orth_layer_t *layer)
{
    int nnz = 1000;            // number of non-zeros
    int out_features = 4096;
    orth_layer_alloc_ortho_csr(&layer, nnz, out_features);
    layer->ortho.row_ptr[0] = 0;
    layer->ortho.row_ptr[1] = 10;
    // ... fill row_ptr, col_indices, values
    for (int row = 1; row < out_features; row++) {
        layer->ortho.row_ptr[row + 1] = row + 1 < 100 ? 10 * (row + 1) : nnz;
    }
    for (int i = 0; i < nnz; i++) {
        layer->ortho.col_indices[i] = i % 64;
        layer->ortho.values[i] = 1.0f;
    }
}

static void run_documented_usage(void)
{
    static float input[64], output[4096];
    orth_layer_t layer;
    if (orth_layer_init(&layer, 64, 4096, 4) != 0) {
        fail("orth_layer_init");
    }
    documented_usage(&layer);
    for (int i = 0; i < 64; i++) {
        input[i] = 1.0f;
    }
    if (orth_layer_forward(&layer, input, output, 1) != 0) {
        fail("orth_layer_forward");
    }
    for (int row = 0; row < 4096; row++) {
        if (output[row] != (row < 100 ? 10.0f : 0.0f)) {
            fprintf(stderr, "row %d is %g\n", row, (double)output[row]);
            exit(1);
        }
    }
    orth_layer_free(&layer);

    /* The same on an array of one layer, and on the struct itself. */
    orth_layer_t one[1], plain;
    if (orth_layer_init(one, 64, 4096, 4) != 0 || orth_layer_alloc_ortho_csr(&one, 1000, 4096) != 0 ||
        orth_layer_init(&plain, 64, 4096, 4) != 0 || orth_layer_alloc_ortho_csr(&plain, 1000, 4096) != 0) {
        fail("orth_layer_alloc_ortho_csr");
    }
    if (one->ortho.count != 1000 || plain.ortho.capacity != 1000 || plain.ortho.format != 1) {
        fail("allocated sizes");
    }
    orth_layer_free(one);
    orth_layer_free(&plain);
}

int main(void)
{
    orth_layer_t layer;
    if (orth_layer_init(&layer, INPUTS, OUTPUTS, 4) != 0) {
        fail("orth_layer_init");
    }
    if (layer.ortho.row_ptr != NULL || layer.ortho.values != NULL || layer.ortho.format != ORTH_FORMAT_CSR ||
        (uintptr_t)layer.base.q_weight % 128 != 0) {
        fail("an initialised layer");
    }
    fill_base(&layer);
    if (orth_layer_alloc_ortho_csr(&layer, OUTPUTS * PER_ROW, OUTPUTS) != 0) {
        fail("orth_layer_alloc_ortho_csr");
    }
    fill_rows(&layer);

    float *input = (float *)malloc(sizeof(float) * BATCH * INPUTS);
    float *output = (float *)malloc(sizeof(float) * BATCH * OUTPUTS);
    float *base = (float *)malloc(sizeof(float) * BATCH * OUTPUTS);
    if (input == NULL || output == NULL || base == NULL) {
        fail("malloc");
    }
    for (int i = 0; i < BATCH * INPUTS; i++) {
        input[i] = next_float();
    }

    const float alphas[] = {0.0f, 0.5f, 1.0f};
    for (size_t i = 0; i < sizeof alphas / sizeof alphas[0]; i++) {
        orth_layer_set_alpha(&layer, alphas[i]);
        if (orth_layer_forward(&layer, input, output, BATCH) != 0) {
            fail("orth_layer_forward");
        }
        compare(&layer, input, output);
    }

    /* Without a sparse part: the same bits as alpha 0. */
    orth_layer_set_alpha(&layer, 0.0f);
    if (orth_layer_forward(&layer, input, output, BATCH) != 0) {
        fail("orth_layer_forward");
    }
    orth_layer_set_alpha(&layer, 1.0f);
    orth_layer_free_ortho(&layer);
    if (orth_layer_forward(&layer, input, base, BATCH) != 0) {
        fail("orth_layer_forward");
    }
    if (memcmp(output, base, sizeof(float) * BATCH * OUTPUTS) != 0) {
        fail("alpha 0 is not the base alone");
    }

    orth_layer_free(&layer);
    free(input);
    free(output);
    free(base);
    run_documented_usage();
    puts("example: ok");
    return 0;
}
