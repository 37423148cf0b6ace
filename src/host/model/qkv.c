// SPDX-License-Identifier: MIT
#include "model/qkv.h"

void qkv_split(swd_tensor part[3], swd_tensor packed, int64_t head_dim)
{
    int64_t d = packed.shape[2] / 3;
    for (int i = 0; i < 3; i++)
        part[i] = tensor_split_last(tensor_slice(packed, 2, i * d, d), head_dim);
}

swd_status qkv_attention(swd_tensor o, swd_tensor packed, int64_t head_dim, attention_args args,
                         swd_exec *ex)
{
    swd_tensor part[3];
    qkv_split(part, packed, head_dim);
    args.n_streams = 1;
    args.q[0] = part[0];
    args.k[0] = part[1];
    args.v[0] = part[2];
    args.o[0] = tensor_split_last(o, head_dim);
    RUN(op_attention(&args, ex));
    return SWD_OK;
}
