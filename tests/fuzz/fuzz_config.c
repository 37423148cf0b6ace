// SPDX-License-Identifier: MIT
// The first byte chooses a reader, the rest is the file: a status and a message, or a struct whose counts are in range.
#include "io/config.h"
#include "io/config_vision.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fd = -1;
static char path[64];

static void put(const uint8_t *data, size_t size)
{
    if (fd < 0) {
        fd = memfd_create("config", 0);
        if (fd < 0) abort();
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size) abort();
}

static swd_status read_one(unsigned kind, swd_err *err)
{
    static union {
        config_sd3 sd3;
        config_flux flux;
        config_vae vae;
        config_tiny_vae tiny_vae;
        config_clip_text clip;
        config_t5 t5;
        config_scheduler scheduler;
        config_model_index index;
        config_swd swd;
        config_clip_vision vision;
        config_clip_processor processor;
        config_inception inception;
    } c;
    swd_status s;
    switch (kind % 12) {
    case 0:
        s = config_sd3_read(&c.sd3, path, err);
        if (s == SWD_OK &&
            (c.sd3.num_layers > CONFIG_LAYERS_MAX || c.sd3.n_dual > c.sd3.num_layers))
            abort();
        return s;
    case 1:
        s = config_vae_read(&c.vae, path, err);
        if (s == SWD_OK && (c.vae.n_blocks < 1 || c.vae.n_blocks > CONFIG_VAE_BLOCKS_MAX)) abort();
        return s;
    case 2:
        s = config_tiny_vae_read(&c.tiny_vae, path, err);
        if (s == SWD_OK && (c.tiny_vae.n_encoder_blocks < 1 ||
                            c.tiny_vae.n_decoder_blocks > CONFIG_VAE_BLOCKS_MAX))
            abort();
        return s;
    case 3:
        s = config_clip_text_read(&c.clip, path, err);
        if (s == SWD_OK && c.clip.head_dim * c.clip.num_attention_heads != c.clip.hidden_size)
            abort();
        return s;
    case 4:
        return config_t5_read(&c.t5, path, err);
    case 5:
        return config_scheduler_read(&c.scheduler, path, err);
    case 6:
        s = config_model_index_read(&c.index, path, err);
        if (s == SWD_OK && c.index.n_components > CONFIG_COMPONENTS_MAX) abort();
        return s;
    case 8:
        s = config_flux_read(&c.flux, path, err);
        if (s == SWD_OK &&
            c.flux.axes_dims_rope[0] + c.flux.axes_dims_rope[1] + c.flux.axes_dims_rope[2] !=
                c.flux.attention_head_dim)
            abort();
        return s;
    case 9:
        s = config_clip_vision_read(&c.vision, path, err);
        if (s == SWD_OK &&
            (c.vision.image_size % c.vision.patch_size != 0 ||
             c.vision.head_dim * c.vision.num_attention_heads != c.vision.hidden_size))
            abort();
        return s;
    case 10:
        s = config_clip_processor_read(&c.processor, path, err);
        if (s == SWD_OK &&
            (c.processor.crop < 1 || c.processor.crop > c.processor.shortest_edge ||
             !(c.processor.std[0] > 0 && c.processor.std[1] > 0 && c.processor.std[2] > 0)))
            abort();
        return s;
    case 11:
        s = config_inception_read(&c.inception, path, err);
        if (s == SWD_OK && 16 % c.inception.width_divisor != 0) abort();
        return s;
    default:
        s = config_swd_read(&c.swd, path, err);
        for (int i = 0; s == SWD_OK && i < c.swd.n_presets; i++) {
            const config_preset *p = &c.swd.presets[i];
            if (p->n_steps < 1 || p->n_steps > CONFIG_STEPS_MAX) abort();
            if (p->n_sigmas < 1 || p->n_sigmas > CONFIG_STEPS_MAX + 1) abort();
        }
        return s;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swd_err err = {0};
    if (size == 0) return 0;
    put(data + 1, size - 1);
    if (read_one(data[0], &err) != SWD_OK && err.message[0] == 0) abort();
    return 0;
}
