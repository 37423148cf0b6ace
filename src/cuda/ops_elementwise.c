// SPDX-License-Identifier: MIT
// Slots of the element-wise ops.
#include "views.h"

// Runs `call` over three tensors of one shape, absent ones among them, as views v0, v1, v2 of shape[4].
#define FOR_VIEWS(t0, t1, t2, call)                                                                \
    const swd_tensor tensors_[] = {t0, t1, t2};                                                    \
    const cuda_views views_ = cuda_views_of(tensors_, 3, 4);                                       \
    const int64_t *shape = views_.shape;                                                           \
    for (int64_t i_ = 0; i_ < views_.n_launches; i_++) {                                           \
        const k_view v0 = cuda_views_at(&views_, 0, i_), v1 = cuda_views_at(&views_, 1, i_),       \
                     v2 = cuda_views_at(&views_, 2, i_);                                           \
        SWD_CUDA(call, err);                                                                       \
    }                                                                                              \
    return SWD_OK

static swd_status gate_residual(swd_backend *b, swd_tensor x, swd_tensor y, swd_tensor gate,
                                swd_stream *s, swd_err *err)
{
    SWD_CUDA(k_gate_residual(cuda_view(x), cuda_view(y), cuda_view(gate), x.shape[0], x.shape[1],
                             x.shape[2], cuda_stream(b, s)),
             err);
    return SWD_OK;
}

static swd_status activation(swd_backend *b, swd_tensor y, swd_tensor x, swd_act act, swd_stream *s,
                             swd_err *err)
{
    FOR_VIEWS(y, x, tensor_none(), k_activation(v0, v1, v2, (k_act)act, shape, cuda_stream(b, s)));
}

static swd_status gated_gelu(swd_backend *b, swd_tensor y, swd_tensor a, swd_tensor g,
                             swd_stream *s, swd_err *err)
{
    FOR_VIEWS(y, a, g, k_gated_gelu(v0, v1, v2, shape, cuda_stream(b, s)));
}

static swd_status axpby(swd_backend *b, swd_tensor y, float ka, swd_tensor x, float kb,
                        swd_tensor z, swd_stream *s, swd_err *err)
{
    FOR_VIEWS(y, x, z, k_axpby(v0, ka, v1, kb, v2, shape, cuda_stream(b, s)));
}

static swd_status copy(swd_backend *b, swd_tensor y, swd_tensor x, swd_stream *s, swd_err *err)
{
    FOR_VIEWS(y, x, tensor_none(),
              (k_activation(v0, v1, v2, K_ACT_NONE, shape, cuda_stream(b, s))));
}

static swd_status fill(swd_backend *b, swd_tensor y, float value, swd_stream *s, swd_err *err)
{
    const cuda_views v = cuda_views_of(&y, 1, 4);
    for (int64_t i = 0; i < v.n_launches; i++)
        SWD_CUDA(k_fill(cuda_views_at(&v, 0, i), value, v.shape, cuda_stream(b, s)), err);
    return SWD_OK;
}

static swd_status guidance_combine(swd_backend *b, swd_tensor v, swd_tensor cond, swd_tensor uncond,
                                   float guidance, swd_stream *s, swd_err *err)
{
    FOR_VIEWS(v, cond, uncond, k_guidance(v0, v1, v2, guidance, shape, cuda_stream(b, s)));
}

static swd_status timestep_sinusoid(swd_backend *b, swd_tensor y, swd_tensor t, swd_stream *s,
                                    swd_err *err)
{
    SWD_CUDA(k_sinusoid(cuda_view(y), t.data, y.shape[0], (int)y.shape[1], cuda_stream(b, s)), err);
    return SWD_OK;
}

void cuda_elementwise_slots(swd_ops *ops)
{
    ops->gate_residual = gate_residual;
    ops->activation = activation;
    ops->gated_gelu = gated_gelu;
    ops->axpby = axpby;
    ops->copy = copy;
    ops->fill = fill;
    ops->guidance_combine = guidance_combine;
    ops->timestep_sinusoid = timestep_sinusoid;
}
