/* A layer whose base is another checkpoint: it runs with the right base and is refused without. */

#include <stdio.h>
#include <string.h>
#include "ortho.h"

#define CHECK(condition)                                                                      \
    do {                                                                                      \
        if (!(condition)) {                                                                   \
            fprintf(stderr, "line %d: %s\n%s\n", __LINE__, #condition, residua_last_error()); \
            return 1;                                                                         \
        }                                                                                     \
    } while (0)

enum { ROWS = 4, COLS = 6, BATCH = 2 };

static const char *path(char *buffer, size_t size, const char *folder, const char *file)
{
    snprintf(buffer, size, "%s/%s", folder, file);
    return buffer;
}

int main(int argc, char **argv)
{
    char split[4096], base[4096];
    CHECK(argc == 2);
    path(split, sizeof split, argv[1], "split.safetensors");
    residua_backend_t *cpu = residua_backend_open("cpu", 1, 0);
    CHECK(cpu != NULL);

    /* The stored path leads elsewhere: the file opens, its layer does not run as its sparse part alone. */
    residua_file_t *file = residua_file_open(split);
    CHECK(file != NULL && residua_file_layer_count(file) == 1);
    CHECK(residua_layer_open(file, "layer.weight", cpu) == NULL);
    CHECK(strstr(residua_last_error(), "layer.weight") != NULL && strstr(residua_last_error(), "base") != NULL);
    CHECK(strstr(residua_last_error(), "was not followed") != NULL);
    CHECK(residua_file_close(file) == 0);

    /* Another checkpoint of the same shape. */
    file = residua_file_open_with_base(split, path(base, sizeof base, argv[1], "other.safetensors"));
    CHECK(file != NULL);
    CHECK(residua_layer_open(file, "layer.weight", cpu) == NULL);
    CHECK(strstr(residua_last_error(), "hash") != NULL);
    CHECK(residua_file_close(file) == 0);

    CHECK(residua_file_open_with_base(split, path(base, sizeof base, argv[1], "missing.safetensors")) == NULL);
    CHECK(residua_file_open_with_base(NULL, base) == NULL && residua_file_open_with_base(split, NULL) == NULL);

    /* The right one. */
    file = residua_file_open_with_base(split, path(base, sizeof base, argv[1], "base.safetensors"));
    CHECK(file != NULL);
    residua_layer_t *layer = residua_layer_open(file, "layer.weight", cpu);
    CHECK(layer != NULL);
    CHECK(residua_file_close(file) == 0 && residua_backend_close(cpu) == 0);

    float input[BATCH * COLS], output[BATCH * ROWS];
    for (int i = 0; i < BATCH * COLS; i++) {
        input[i] = (float)(i % 5) - 2.0f;
    }
    for (int step = 0; step <= 2; step++) {
        float alpha = 0.5f * (float)step;
        CHECK(residua_layer_forward(layer, alpha, input, output, BATCH) == 0);
        for (int row = 0; row < BATCH * ROWS; row++) {
            float expected = 0.0f;
            for (int col = 0; col < COLS; col++) {
                int weight = row % ROWS * COLS + col;
                float tuned = weight == 5 ? 2.0f : weight == 13 ? -4.0f : 0.0f;
                /* Small integers and halves: every sum is exact. */
                expected += ((float)(weight % 7) - 3.0f + alpha * tuned) * input[row / ROWS * COLS + col];
            }
            CHECK(output[row] == expected);
        }
    }
    CHECK(residua_layer_close(layer) == 0);
    puts("checkpoint: ok");
    return 0;
}
