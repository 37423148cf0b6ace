// SPDX-License-Identifier: MIT
#include "sanitize.h"
#include "base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 32 + 2 * OPTIONS_FILTERS_MAX, PATH_BYTES = 4096, FOUND_ERRORS = 86 };

static const char section[] = "sanitizers";

/* ---- the tool ---- */

static bool is_program(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static bool find_tool(char path[PATH_BYTES], const char *given)
{
    static const char name[] = "compute-sanitizer";
    const char *folders = getenv("PATH");
    if (given) {
        snprintf(path, PATH_BYTES, "%s", given);
        return is_program(path);
    }
    for (; folders && *folders; folders += strcspn(folders, ":"), folders += *folders == ':') {
        snprintf(path, PATH_BYTES, "%.*s/%s", (int)strcspn(folders, ":"), folders, name);
        if (is_program(path)) return true;
    }
    snprintf(path, PATH_BYTES, "/usr/local/cuda/bin/%s", name);
    return is_program(path);
}

/* ---- a run ---- */

typedef struct command {
    const char *argument[ARGUMENTS_MAX + 1];
    int n;
} command;

static void add(command *c, const char *argument)
{
    if (c->n < ARGUMENTS_MAX) c->argument[c->n++] = argument;
    c->argument[c->n] = NULL;
}

// The exit status with both outputs in log; -1 where it could not be run or was killed.
static int run(const command *c, const char *log)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0) _exit(127);
        execv(c->argument[0], (char *const *)c->argument);
        _exit(127);
    }
    if (child < 0) return -1;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void describe(char *message, size_t n, int status, const char *log)
{
    if (status == FOUND_ERRORS)
        snprintf(message, n, "it found errors: see %s", log);
    else if (status < 0 || status == 127)
        snprintf(message, n, "it could not be run, or was killed: see %s", log);
    else
        snprintf(message, n, "the cases under it end with status %d: see %s", status, log);
}

static void run_tool(report *r, const options *o, const char *tool, const char *self,
                     const char *name, const char *folder)
{
    char log[PATH_BYTES], device[16], message[PATH_BYTES + 128], code[16];
    command c = {0};
    snprintf(log, sizeof log, "%s/sanitizer-%s.log", folder, name);
    snprintf(device, sizeof device, "%d", o->device);
    snprintf(code, sizeof code, "%d", (int)FOUND_ERRORS);
    const char *const arguments[] = {tool,     "--tool", name,       "--error-exitcode",
                                     code,     self,     "--only",   "ops,training",
                                     "--size", "small",  "--device", device};
    for (size_t i = 0; i < sizeof arguments / sizeof *arguments; i++) add(&c, arguments[i]);
    for (int i = 0; i < o->n_filters; i++) {
        add(&c, "--filter");
        add(&c, o->filter[i]);
    }
    printf("%s: %s, log in %s\n", section, name, log);
    fflush(stdout);
    int status = run(&c, log);
    describe(message, sizeof message, status, log);
    report_check(r, section, name, status == 0 ? NULL : message);
}

void sanitize(report *r, const options *o)
{
    static const char *const tools[] = {"memcheck", "racecheck", "synccheck", "initcheck"};
    char tool[PATH_BYTES], self[PATH_BYTES], temporary[] = "/tmp/gpu_check.XXXXXX";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (!find_tool(tool, o->sanitizer)) {
        if (o->sanitizer)
            report_check(r, section, "compute-sanitizer", "there is no such program");
        else
            report_skip(r, section,
                        "compute-sanitizer is neither in PATH nor in /usr/local/cuda/bin");
        return;
    }
    const char *folder = o->out;
    if (folder && mkdir(folder, 0777) != 0 && errno != EEXIST) folder = NULL;
    if (!folder) folder = mkdtemp(temporary);
    if (n <= 0 || !folder) {
        report_check(r, section, "setup", strerror(errno));
        return;
    }
    self[n] = '\0';
    report_fact(r, "compute_sanitizer", tool);
    for (size_t i = 0; i < sizeof tools / sizeof *tools; i++)
        run_tool(r, o, tool, self, tools[i], folder);
    report_summary(r, section);
}
