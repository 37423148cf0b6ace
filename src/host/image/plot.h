/* SPDX-License-Identifier: MIT */
/* Plots as SVG; the struct and what it means are swd/plot.h's. */
#ifndef SWD_IMAGE_PLOT_H
#define SWD_IMAGE_PLOT_H
#include "base/status.h"
#include <swd/plot.h>

/* The whole document, ended by 0, the caller's to free. SWD_ERR_ARGUMENT: more than the limits allow, or an empty plot. */
swd_status plot_svg(char **out, size_t *n, const swd_plot *plot, swd_err *err);
swd_status plot_write(const char *path, const swd_plot *plot, swd_err *err);
#endif
