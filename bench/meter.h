/* SPDX-License-Identifier: MIT */
/* Looks over the shoulder of a backend: how long each class of ops takes and how much arithmetic it is, counted from the
 * arguments of the ops themselves. Wraps the slots of one backend; one meter at a time, one thread. */
#ifndef SWD_BENCH_METER_H
#define SWD_BENCH_METER_H
#include "backend/backend.h"

typedef enum meter_class {
    METER_LINEAR,
    METER_ATTENTION,
    METER_CONV,
    METER_NORM,  /* layer, RMS and group norms, with what is fused into them */
    METER_OTHER, /* everything else that has a slot */
    METER_CLASSES
} meter_class;

/* A product of a linear layer: y[m, n] = x[m, k] w[n, k]^T, `count` times since the reset. */
typedef struct meter_product {
    int64_t m, k, n;
    swd_dtype compute;
    int count;
} meter_product;

enum { METER_PRODUCTS_MAX = 128 };

typedef struct meter {
    double seconds[METER_CLASSES],
        flop[METER_CLASSES]; /* 2 per multiply-add; norms and others count none */
    meter_product
        products[METER_PRODUCTS_MAX]; /* the different ones; beyond the limit they are left out */
    int n_products;
} meter;

const char *meter_class_name(meter_class c);
/* From now on the calls of b are added to m. */
void meter_attach(meter *m, swd_backend *b);
void meter_detach(swd_backend *b);
double meter_flop(const meter *m); /* of all classes */
#endif
