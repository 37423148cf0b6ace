// SPDX-License-Identifier: MIT
// The products of training, c (+)= a b (+ bias).
#include "backend_cuda.h"
#include "kernels/training.h"
#include "vendor/gemm.h"

static k_gemm_strided_args args_of(const gemm_args *g)
{
    return (k_gemm_strided_args){.c = cuda_view(g->c),
                                 .a = g->a.data,
                                 .b = g->b.data,
                                 .dtype = cuda_dtype(g->a.dtype),
                                 .a_stride = {g->a.stride[0], g->a.stride[1]},
                                 .b_stride = {g->b.stride[0], g->b.stride[1]},
                                 .bias = g->bias.data,
                                 .add = g->add,
                                 .m = g->c.shape[0],
                                 .n = g->c.shape[1],
                                 .k = g->a.shape[1]};
}

static size_t gemm_workspace(swd_backend *b, const gemm_args *g)
{
    const k_gemm_strided_args a = args_of(g);
    const vendor_gemm *o = vendor_gemm_choice(&a, tensor_present(g->bias), b);
    size_t ours = k_gemm_strided_workspace(&a),
           theirs =
               o ? vendor_gemm_workspace(o) : vendor_gemm_planned(&a, tensor_present(g->bias), b);
    return theirs > ours ? theirs : ours;
}

static swd_status gemm(swd_backend *b, const gemm_args *g, void *ws, swd_stream *stream,
                       swd_err *err)
{
    const k_gemm_strided_args a = args_of(g);
    const vendor_gemm *o = vendor_gemm_choice(&a, tensor_present(g->bias), b);
    SWD_TRY(vendor_told(b, err), err);
    if (o && vendor_gemm_takes(&a)) return vendor_gemm_run(o, &a, ws, cuda_stream(b, stream), err);
    SWD_CUDA(k_gemm_strided(&a, ws, cuda_stream(b, stream)), err);
    return SWD_OK;
}

void cuda_gemm_slots(swd_backend *b)
{
    swd_backward *slots = &cuda_of(b)->backward;
    slots->gemm_workspace = gemm_workspace;
    slots->gemm = gemm;
}
