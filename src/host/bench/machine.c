// SPDX-License-Identifier: MIT
#include "bench/machine.h"
#include "backend/cpu/simd.h"
#include "revision.h" // BENCH_BUILD
#include <oneapi/dnnl/dnnl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { CACHE_ASSUMED = 64 << 20 };

// The value behind "key :" of a /proc file's first such line.
static void proc_value(char *out, size_t n, const char *file, const char *key)
{
    char line[512];
    FILE *f = fopen(file, "r");
    snprintf(out, n, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, key, strlen(key)) != 0) continue;
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(out, n, "%s", colon + 1 + strspn(colon + 1, " \t"));
        break;
    }
    if (f) fclose(f);
}

static const char *dnnl_isa(void)
{
    static const struct {
        int isa;
        const char *name;
    } names[] = {{dnnl_cpu_isa_sse41, "sse4.1"},
                 {dnnl_cpu_isa_avx, "avx"},
                 {dnnl_cpu_isa_avx2, "avx2"},
                 {dnnl_cpu_isa_avx2_vnni, "avx2_vnni"},
                 {dnnl_cpu_isa_avx512_core, "avx512_core"},
                 {dnnl_cpu_isa_avx512_core_vnni, "avx512_core_vnni"},
                 {dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16"},
                 {dnnl_cpu_isa_avx512_core_amx, "avx512_core_amx"}};
    int isa = (int)dnnl_get_effective_cpu_isa();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].isa == isa) return names[i].name;
    return "other";
}

int machine_threads(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
    return 1;
}

size_t machine_last_cache_bytes(void)
{
    long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE), l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return l3 > 0 ? (size_t)l3 : l2 > 0 ? (size_t)l2 : CACHE_ASSUMED;
}

double machine_load(void)
{
    double load;
    return getloadavg(&load, 1) == 1 ? load : -1;
}

double machine_peak_bytes(long pid)
{
    char text[64], file[64] = "/proc/self/status";
    if (pid) snprintf(file, sizeof file, "/proc/%ld/status", pid);
    proc_value(text, sizeof text, file, "VmHWM");
    return strtod(text, NULL) * 1024;
}

void machine_peak_reset(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (!f) return;
    fputs("5", f);
    fclose(f);
}

// What the system says of the processor's clock, in MHz; 0: nothing. The first is of this moment, at rest.
static void describe_clocks(json_t *o)
{
    char text[64];
    static const struct {
        const char *key, *file;
        double unit;
    } sources[] = {{"cpu_mhz_max", "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", 1e-3},
                   {"cpu_mhz_base", "/sys/devices/system/cpu/cpu0/cpufreq/base_frequency", 1e-3}};
    proc_value(text, sizeof text, "/proc/cpuinfo", "cpu MHz");
    if (strtod(text, NULL) > 0) json_object_set_new(o, "cpu_mhz", json_real(strtod(text, NULL)));
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        double value = 0;
        FILE *f = fopen(sources[i].file, "r");
        if (f && fscanf(f, "%lf", &value) == 1 && value > 0)
            json_object_set_new(o, sources[i].key, json_real(value * sources[i].unit));
        if (f) fclose(f);
    }
}

json_t *machine_describe(int threads)
{
    char model[128], memory[64], onednn[32], compiler[96];
    struct utsname os = {0};
    const dnnl_version_t *v = dnnl_version();
    const char *wait = getenv("OMP_WAIT_POLICY");
    proc_value(model, sizeof model, "/proc/cpuinfo", "model name");
    proc_value(memory, sizeof memory, "/proc/meminfo", "MemTotal");
    snprintf(onednn, sizeof onednn, "%d.%d.%d", v->major, v->minor, v->patch);
    uname(&os);
#if defined(__clang__)
    snprintf(compiler, sizeof compiler, "clang %s", __clang_version__);
#else
    snprintf(compiler, sizeof compiler, "gcc %s", __VERSION__);
#endif
    json_t *o = json_pack("{s:s, s:i, s:i, s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:f}",
                          "cpu", model, "threads", threads, "cpus", machine_threads(), "memory",
                          memory, "last_cache_bytes", (json_int_t)machine_last_cache_bytes(),
                          "isa_own", simd_pick()->name, "isa_onednn", dnnl_isa(), "onednn", onednn,
                          "compiler", compiler, "build", BENCH_BUILD, "kernel", os.release,
                          "omp_wait_policy", wait ? wait : "", "load_at_start", machine_load());
    if (o) describe_clocks(o);
    return o;
}
