/* SPDX-License-Identifier: MIT */
/* Looks over the shoulder of a backend: which ops run, on which shapes, how long they take and how much arithmetic and memory they are,
 * counted from the arguments of the ops themselves. Wraps the slots of one backend; one meter at a time, one thread.
 *
 *     flop: 2 per multiply-add of linear layers, convolutions and attention; the others count none
 *     bytes: every operand once, packed weights as they are stored */
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

/* The stage of a request in which an op runs (backend/trace.h); outside of one: METER_NO_STAGE. */
typedef enum meter_stage {
    METER_NO_STAGE,
    METER_TEXT,
    METER_DENOISE,
    METER_DECODE,
    METER_STAGES
} meter_stage;

enum { METER_CALLS_MAX = 512, METER_DIMS = 5 };

/* Calls of one op on operands of one shape, since the reset. */
typedef struct meter_call {
    const char *op; /* static */
    meter_class class;
    int64_t dims
        [METER_DIMS]; /* linear: m k n; attention: batch heads queries keys d; conv: pixels in out kernel; else the result's */
    swd_dtype dtype;  /* of the products, else of the result */
    int count;
    double seconds, flop, bytes; /* of all */
} meter_call;

typedef struct meter {
    /* set by the user: */
    bool timed;   /* seconds are taken; on a device that waits for each op */
    bool by_call; /* calls are told apart */
    double seconds[METER_CLASSES], flop[METER_CLASSES], bytes;
    double stage_flop[METER_STAGES];
    meter_call calls[METER_CALLS_MAX]; /* beyond the limit they are left out */
    int n_calls;
} meter;

const char *meter_class_name(meter_class c);
/* From now on the calls of b are added to m. Events that it needs on a device: SWD_ERR_DEVICE where there are none. */
swd_status meter_attach(meter *m, swd_backend *b, swd_err *err);
void meter_detach(swd_backend *b);
void meter_reset(meter *m);
double meter_flop(const meter *m); /* of all classes */
/* "linear 1024x1536x6144" into buf; returns buf. */
char *meter_describe(const meter_call *c, char *buf, size_t n);
#endif
