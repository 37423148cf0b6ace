// SPDX-License-Identifier: MIT
// gpu_check's parts for ops and training find slots that do nothing and one that gives an error, name the cases, and go on behind them.
#include "backend_cuda.h"
#include "checks.h"
#include "training.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static swd_status do_nothing(swd_backend *b, swd_tensor y, float a, swd_tensor x, float c,
                             swd_tensor z, swd_stream *s, swd_err *err)
{
    (void)b, (void)y, (void)a, (void)x, (void)c, (void)z, (void)s, (void)err;
    return SWD_OK;
}

static swd_status no_gradient(swd_backend *b, swd_grad dx, swd_tensor x, swd_tensor dy, swd_act act,
                              swd_stream *s, swd_err *err)
{
    (void)b, (void)dx, (void)x, (void)dy, (void)act, (void)s, (void)err;
    return SWD_OK;
}

static swd_status break_off(swd_backend *b, swd_tensor y, float value, swd_stream *s, swd_err *err)
{
    (void)b, (void)y, (void)value, (void)s;
    return SWD_FAIL(err, SWD_ERR_DEVICE, "broken on purpose");
}

static void must(bool good, const char *what)
{
    if (good) return;
    printf("FAILED: %s\n", what);
    exit(1);
}

static int find(json_t *failures, const char *name, const char *message)
{
    json_t *f;
    size_t i;
    int n = 0;
    json_array_foreach(failures, i, f) n +=
        strstr(json_string_value(json_object_get(f, "name")), name) &&
        strstr(json_string_value(json_object_get(f, "message")), message);
    return n;
}

static json_t *document_in(const char *folder)
{
    char path[512];
    json_error_t e;
    snprintf(path, sizeof path, "%s/gpu_check.json", folder);
    json_t *doc = json_load_file(path, 0, &e);
    must(doc != NULL, "the report can be read");
    return doc;
}

int main(int argc, char **argv)
{
    options o = {.size = SMALL, .n_filters = 3, .filter = {"axpby.", "fill.", "guidance_combine."}};
    swd_err err = {0};
    swd_backend *b;
    report *r;
    must(argc == 2, "a folder for the report is named");
    must(backend_cuda_create(&b, 0, &err) == SWD_OK, err.message);
    must(report_open(&r, "gpu_check", true, &err) == SWD_OK, err.message);
    const swd_ops right = b->ops;
    b->ops.axpby = do_nothing;
    b->ops.fill = break_off;
    check_ops(r, &o, b);
    options t = {.n_filters = 2,
                 .filter = {"gradient of activation.", "gradient of guidance_combine."},
                 .vendor = "none"};
    b->ops = right;
    cuda_of(b)->backward.activation = no_gradient;
    check_training(r, &t, b);
    int checks = report_checks(r), failures = report_failures(r); // of both parts
    must(report_write(r, argv[1], &err) == SWD_OK, err.message);
    json_t *doc = document_in(argv[1]), *checks_of = json_object_get(doc, "checks");
    json_t *list = json_object_get(json_object_get(checks_of, "ops"), "failures"),
           *trained = json_object_get(json_object_get(checks_of, "training"), "failures");
    int wrong = find(list, "axpby.", "wrong"), broken = find(list, "fill.", "broken on purpose");
    printf("%d checks, %d failures, %d of axpby, %d of fill\n", checks, failures, wrong, broken);
    must(wrong > 1 && broken > 1, "the cases of both slots fail, one by one");
    must(find(list, "guidance_combine.", "") == 0, "those of a third are right");
    must(find(trained, "gradient of activation.", "x: off by") > 1, "a slot of training fails");
    must(find(trained, "guidance_combine.", "") == 0, "another one is right");
    must(failures == (int)(json_array_size(list) + json_array_size(trained)) && checks > failures,
         "everything is counted");
    json_decref(doc);
    report_close(&r);
    backend_destroy(&b);
    return 0;
}
