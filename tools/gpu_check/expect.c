// SPDX-License-Identifier: MIT
// docs/kernels.md: the list of shapes with what the roofline allows, no device asked.
#include "bench.h"
#include "shapes.h"
#include <stdio.h>

static const char head[] = "# The kernels, and what the roofline allows\n"
                           "\n"
                           "Printed by `gpu_check --expect`; a test compares. Every op of the CUDA "
                           "backend at shapes of published models, the shapes that\n"
                           "`gpu_check --only bench` measures (docs/gpu-check.md). **Times are "
                           "expectations, not measurements**: the larger of\n"
                           "FLOP / peak and bytes / bandwidth, at the peaks below. No kernel has "
                           "run on a GPU yet, so the last column has dashes.\n"
                           "\n"
                           "FLOP: 2 per multiply-add of the products, on tensor cores (bf16, "
                           "float32 sums, dense); other arithmetic counts none. Bytes: every\n"
                           "operand once, twice where it is updated in place, from and to device "
                           "memory; group norm reads its map twice, the second time partly\n"
                           "from L2. Kernels are the `__global__` functions of src/cuda/kernels "
                           "that a contiguous, aligned bf16 call reaches.\n"
                           "\n";

// Of a data sheet, in TFLOP/s and GB/s.
static void print_peaks(void)
{
    puts("| peaks | TFLOP/s | GB/s |\n|---|---:|---:|");
    for (int i = 0; i < ROOFLINE_CARDS; i++)
        printf("| %s | %.1f | %.0f |\n", roofline_cards[i].name, roofline_cards[i].flop_s * 1e-12,
               roofline_cards[i].byte_s * 1e-9);
}

static void print_header(void)
{
    fputs("\n| op: model, layer, size | kernel | fused | GFLOP | MB |", stdout);
    for (int i = 0; i < ROOFLINE_CARDS; i++) printf(" %s, us |", roofline_cards[i].name);
    fputs(" measured |\n|---|---|---|---:|---:|", stdout);
    for (int i = 0; i < ROOFLINE_CARDS; i++) fputs("---:|", stdout);
    puts("---|");
}

// Three digits, no exponent.
static void print_cell(double x)
{
    if (x >= 100)
        printf(" %.0f |", x);
    else
        printf(" %.3g |", x);
}

static void print_row(const shape *s)
{
    plan p = {0};
    s->kind->plan(&p, s->d);
    printf("| %s | %s | %s |", s->name, s->kind->kernel, s->kind->fused);
    if (p.flop > 0)
        print_cell(p.flop * 1e-9);
    else
        fputs(" |", stdout);
    print_cell(plan_bytes(&p) * 1e-6);
    for (int i = 0; i < ROOFLINE_CARDS; i++)
        print_cell(roofline_s(&roofline_cards[i], p.flop, plan_bytes(&p)) * 1e6);
    puts(" - |");
}

void bench_expect(void)
{
    int n;
    const shape *s = shapes_list(&n, false);
    fputs(head, stdout);
    print_peaks();
    print_header();
    for (int i = 0; i < n; i++) print_row(&s[i]);
}
