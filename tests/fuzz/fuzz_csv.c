// SPDX-License-Identifier: MIT
// Any bytes as a CSV: refused with a message, or rows whose fields lie inside their text, in order, each ended by 0.
#include "train/csv.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swd_err err = {0};
    csv_reader r = csv_begin("fuzz", (const char *)data, size);
    csv_row row = {0};
    bool more = true;
    size_t bytes = 0;
    while (more) {
        const char *before = r.at;
        if (csv_next(&row, &more, &r, &err) != SWD_OK) {
            if (err.message[0] == 0) abort();
            break;
        }
        if (more != (row.n > 0) || (more && r.at == before)) abort();
        for (int i = 0; i < row.n; i++) {
            const char *f = csv_field(&row, i);
            if (f != row.text.data + row.start[i] || f[row.length[i]] != 0) abort();
            bytes += row.length[i];
        }
    }
    if (bytes > size) abort();
    csv_row_free(&row);
    return 0;
}
