/*
 * orth_layer_forward against plain loops of the method that its interface comes from: 4096 x 4096, 5 %, batch 1 and 32,
 * one thread. docs/c-api.md has the commands. Contestants take turns, one run each per round; figures are medians, and
 * ratios medians of ratios within rounds.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ortho.h"

enum { INPUTS = 4096, OUTPUTS = 4096, PER_ROW = INPUTS / 20, NNZ = OUTPUTS * PER_ROW, BATCH = 32, ROUNDS = 25 };

static orth_layer_t base_only, csr, coo;
/* Flat indices as in the seed's COO, wide enough for this layer. */
static uint32_t *flat;
static float *input, *output, *wanted;

static uint32_t state = 7;
static uint32_t next(void)
{
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

/* y = base * x as the seed writes it: a code at a time. */
static void plain_base(const orth_layer_t *layer, const float *x, float *y)
{
    const uint8_t *codes = (const uint8_t *)layer->base.q_weight;
    const float *scales = (const float *)layer->base.q_scales;
    for (size_t row = 0; row < OUTPUTS; row++) {
        float sum = 0.0f, scale = scales[row];
        for (size_t column = 0; column < INPUTS; column++) {
            size_t at = row * INPUTS + column;
            int8_t value = (int8_t)(codes[at / 2] >> (at % 2 * 4) & 0x0F);
            if (value & 0x08) {
                value = (int8_t)(value | 0xF0);
            }
            sum += x[column] * ((float)value * scale);
        }
        y[row] = sum;
    }
}

/* One pass over all triplets, row and column by division: the seed's CPU path. */
static void plain_coo(const float *x, float *y)
{
    for (int i = 0; i < NNZ; i++) {
        y[flat[i] / INPUTS] += csr.alpha * csr.ortho.values[i] * x[flat[i] % INPUTS];
    }
}

/* All triplets for every row: the seed's GPU fallback. */
static void plain_coo_scan(const float *x, float *y)
{
    for (uint32_t row = 0; row < OUTPUTS; row++) {
        float sum = 0.0f;
        for (int i = 0; i < NNZ; i++) {
            if (flat[i] / INPUTS == row) {
                sum += csr.ortho.values[i] * x[flat[i] % INPUTS];
            }
        }
        y[row] += csr.alpha * sum;
    }
}

static void plain_csr(const float *x, float *y)
{
    for (int row = 0; row < OUTPUTS; row++) {
        float sum = 0.0f;
        for (int32_t at = csr.ortho.row_ptr[row]; at < csr.ortho.row_ptr[row + 1]; at++) {
            sum += csr.ortho.values[at] * x[csr.ortho.col_indices[at]];
        }
        y[row] += csr.alpha * sum;
    }
}

static void plain(void (*sparse)(const float *, float *), size_t batch)
{
    for (size_t vector = 0; vector < batch; vector++) {
        plain_base(&csr, input + vector * INPUTS, output + vector * OUTPUTS);
        sparse(input + vector * INPUTS, output + vector * OUTPUTS);
    }
}

static void ours(const orth_layer_t *layer, size_t batch)
{
    if (orth_layer_forward(layer, input, output, batch) != 0) {
        fprintf(stderr, "orth_layer_forward: %s\n", orth_last_error());
        exit(1);
    }
}

enum { PLAIN_COO, PLAIN_CSR, OUR_COO, OUR_CSR, OUR_ZERO, OUR_BASE, CONTESTANTS };
static const char *const names[CONTESTANTS] = {
    "plain loops, COO", "plain loops, CSR", "residua, COO (32-bit)", "residua, CSR", "residua, CSR, alpha 0",
    "residua, no sparse part",
};

static void run(int contestant, size_t batch)
{
    switch (contestant) {
    case PLAIN_COO: plain(plain_coo, batch); break;
    case PLAIN_CSR: plain(plain_csr, batch); break;
    case OUR_COO: ours(&coo, batch); break;
    case OUR_CSR: ours(&csr, batch); break;
    case OUR_ZERO:
        csr.alpha = 0.0f;
        ours(&csr, batch);
        csr.alpha = 1.0f;
        break;
    default: ours(&base_only, batch);
    }
}

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(const double *values, int count)
{
    double sorted[ROUNDS];
    memcpy(sorted, values, sizeof(double) * (size_t)count);
    qsort(sorted, (size_t)count, sizeof(double), ascending);
    return sorted[count / 2];
}

static double ratio(double times[CONTESTANTS][ROUNDS], int slow, int fast, int rounds)
{
    double ratios[ROUNDS];
    for (int round = 0; round < rounds; round++) {
        ratios[round] = times[slow][round] / times[fast][round];
    }
    return median(ratios, rounds);
}

static void race(size_t batch, int rounds)
{
    static double times[CONTESTANTS][ROUNDS];
    for (int contestant = 0; contestant < CONTESTANTS; contestant++) {
        run(contestant, batch); /* warm, and compared */
        if (contestant == PLAIN_COO) {
            memcpy(wanted, output, sizeof(float) * batch * OUTPUTS);
        }
        for (size_t i = 0; contestant < OUR_ZERO && i < batch * OUTPUTS; i++) {
            if (!(fabsf(output[i] - wanted[i]) <= 1e-3f)) {
                fprintf(stderr, "%s: value %zu is %g, not %g\n", names[contestant], i, (double)output[i],
                        (double)wanted[i]);
                exit(1);
            }
        }
    }
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < CONTESTANTS; i++) {
            int contestant = (i + round) % CONTESTANTS;
            double start = now();
            run(contestant, batch);
            times[contestant][round] = now() - start;
        }
    }
    printf("\nbatch %zu, %d rounds\n", batch, rounds);
    for (int contestant = 0; contestant < CONTESTANTS; contestant++) {
        printf("  %-26s %9.3f ms\n", names[contestant], median(times[contestant], rounds));
    }
    printf("  plain CSR / residua CSR    %9.2f times\n", ratio(times, PLAIN_CSR, OUR_CSR, rounds));
    printf("  plain COO / residua COO    %9.2f times\n", ratio(times, PLAIN_COO, OUR_COO, rounds));
    printf("  residua COO / residua CSR  %9.3f\n", ratio(times, OUR_COO, OUR_CSR, rounds));
    printf("  alpha 0 / no sparse part   %9.3f\n", ratio(times, OUR_ZERO, OUR_BASE, rounds));
}

/* The sparse part alone, one vector: what COO against CSR is about. */
static void race_sparse(void)
{
    void (*const loops[3])(const float *, float *) = {plain_coo_scan, plain_coo, plain_csr};
    const char *const loop_names[3] = {"plain scan per row, COO", "plain pass, COO", "plain rows, CSR"};
    double times[3][5];
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 3; i++) {
            double start = now();
            loops[i](input, output);
            times[i][round] = now() - start;
        }
    }
    printf("\nsparse part alone, batch 1, 5 rounds\n");
    for (int i = 0; i < 3; i++) {
        printf("  %-26s %9.3f ms\n", loop_names[i], median(times[i], 5));
    }
}

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes);
    if (memory == NULL) {
        exit(1);
    }
    return memory;
}

int main(void)
{
    orth_layer_t *const layers[] = {&base_only, &csr, &coo};
    for (int i = 0; i < 3; i++) {
        if (orth_layer_init(layers[i], INPUTS, OUTPUTS, 4) != 0) {
            return 1;
        }
    }
    for (size_t i = 0; i < (size_t)INPUTS * OUTPUTS / 2; i++) {
        ((uint8_t *)csr.base.q_weight)[i] = (uint8_t)next();
    }
    for (size_t row = 0; row < OUTPUTS; row++) {
        ((float *)csr.base.q_scales)[row] = 1e-3f + (float)(next() % 1000) * 1e-6f;
    }
    for (int i = 0; i < 3; i += 2) {
        memcpy(layers[i]->base.q_weight, csr.base.q_weight, (size_t)INPUTS * OUTPUTS / 2);
        memcpy(layers[i]->base.q_scales, csr.base.q_scales, OUTPUTS * sizeof(float));
    }
    if (orth_layer_alloc_ortho_csr(&csr, NNZ, OUTPUTS) != 0 || orth_layer_alloc_ortho_coo32(&coo, NNZ) != 0) {
        return 1;
    }
    flat = (uint32_t *)allocate(NNZ * sizeof *flat);
    for (int row = 0, at = 0; row < OUTPUTS; row++) {
        csr.ortho.row_ptr[row + 1] = (row + 1) * PER_ROW;
        for (int i = 0; i < PER_ROW; i++, at++) {
            csr.ortho.col_indices[at] = coo.ortho.col_indices[at] = i * INPUTS / PER_ROW + (int)(next() % 19);
            csr.ortho.values[at] = coo.ortho.values[at] = (float)next() * 1e-9f - 8e-3f;
            coo.ortho.row_ptr[at] = row;
            flat[at] = (uint32_t)(row * INPUTS + csr.ortho.col_indices[at]);
        }
    }
    input = (float *)allocate(BATCH * INPUTS * sizeof(float));
    output = (float *)allocate(BATCH * OUTPUTS * sizeof(float));
    wanted = (float *)allocate(BATCH * OUTPUTS * sizeof(float));
    for (int i = 0; i < BATCH * INPUTS; i++) {
        input[i] = (float)next() / 8388608.0f - 1.0f;
    }
    printf("%d x %d, %d values (%.2f %%), residua %s, 1 thread\n", OUTPUTS, INPUTS, NNZ,
           100.0 * NNZ / ((double)INPUTS * OUTPUTS), residua_version());
    race(1, ROUNDS);
    race(32, 7);
    race_sparse();
    for (int i = 0; i < 3; i++) {
        orth_layer_free(layers[i]);
    }
    free(flat);
    free(input);
    free(output);
    free(wanted);
    return 0;
}
