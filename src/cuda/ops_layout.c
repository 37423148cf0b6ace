// SPDX-License-Identifier: MIT
// Slots of the ops between latents, tokens, feature maps and pictures.
#include "backend_cuda.h"

static swd_status patchify(swd_backend *b, swd_tensor y, swd_tensor x, int patch, swd_stream *s,
                           swd_err *err)
{
    SWD_CUDA(k_patchify(cuda_view(y), x.data, patch, x.shape[0], x.shape[1], x.shape[2], x.shape[3],
                        cuda_stream(b, s)),
             err);
    return SWD_OK;
}

static swd_status unpatchify(swd_backend *b, swd_tensor x, swd_tensor y, int patch, swd_stream *s,
                             swd_err *err)
{
    SWD_CUDA(k_unpatchify(x.data, cuda_view(y), patch, x.shape[0], x.shape[1], x.shape[2],
                          x.shape[3], cuda_stream(b, s)),
             err);
    return SWD_OK;
}

static swd_status add_position(swd_backend *b, swd_tensor x, swd_tensor table, int grid_h,
                               int grid_w, swd_stream *s, swd_err *err)
{
    int64_t max = 0;
    while (max * max < table.shape[0]) max++;
    SWD_CUDA(k_add_position(cuda_view(x), table.data, max, x.shape[0], grid_h, grid_w, x.shape[2],
                            cuda_stream(b, s)),
             err);
    return SWD_OK;
}

static swd_status nchw_to_nhwc(swd_backend *b, swd_tensor y, swd_tensor x, float scale, float shift,
                               swd_stream *s, swd_err *err)
{
    SWD_CUDA(k_nchw_to_nhwc(cuda_view(y), cuda_view(x), scale, shift, x.shape[0], x.shape[1],
                            x.shape[2] * x.shape[3], cuda_stream(b, s)),
             err);
    return SWD_OK;
}

static swd_status nhwc_to_nchw(swd_backend *b, swd_tensor y, swd_tensor x, float scale, float shift,
                               swd_stream *s, swd_err *err)
{
    SWD_CUDA(k_nhwc_to_nchw(cuda_view(y), cuda_view(x), scale, shift, y.shape[0], y.shape[1],
                            y.shape[2] * y.shape[3], cuda_stream(b, s)),
             err);
    return SWD_OK;
}

static swd_status to_rgb8(swd_backend *b, swd_tensor y, swd_tensor x, float scale, float shift,
                          swd_stream *s, swd_err *err)
{
    SWD_CUDA(k_to_rgb8(y.data, cuda_view(x), scale, shift, tensor_numel(x), cuda_stream(b, s)),
             err);
    return SWD_OK;
}

static swd_status from_rgb8(swd_backend *b, swd_tensor y, swd_tensor x, float scale, float shift,
                            swd_stream *s, swd_err *err)
{
    SWD_CUDA(k_from_rgb8(cuda_view(y), x.data, scale, shift, tensor_numel(y), cuda_stream(b, s)),
             err);
    return SWD_OK;
}

void cuda_layout_slots(swd_ops *ops)
{
    ops->patchify = patchify;
    ops->unpatchify = unpatchify;
    ops->add_position = add_position;
    ops->nchw_to_nhwc = nchw_to_nhwc;
    ops->nhwc_to_nchw = nhwc_to_nchw;
    ops->to_rgb8 = to_rgb8;
    ops->from_rgb8 = from_rgb8;
}
