// SPDX-License-Identifier: MIT
#include "bench/child.h"
#include "base/memory.h"
#include "bench/machine.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct child {
    pid_t pid;
    int in;    // its stdin, a socket: writing to a child that died is an error and no SIGPIPE
    FILE *out; // its stdout
    char name[128];
};

static void become(char *const argv[], int in[2], int out[2], int merge_stderr)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL); // no contestant outlives its race
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    if (merge_stderr) dup2(out[1], STDERR_FILENO);
    close(in[0]), close(in[1]), close(out[0]), close(out[1]);
    execvp(argv[0], argv);
    fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

swd_status child_start(child **out, char *const argv[], int merge_stderr, swd_err *err)
{
    int in[2] = {-1, -1}, from[2] = {-1, -1};
    child *c = NULL;
    *out = NULL;
    SWD_TRY(swd_calloc(&c, 1, sizeof *c, "a child", err), err);
    snprintf(c->name, sizeof c->name, "%s", argv[0]);
    c->in = -1;
    bool ok = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) == 0 &&
              pipe2(from, O_CLOEXEC) == 0 && (c->pid = fork()) >= 0;
    if (ok && c->pid == 0) become(argv, in, from, merge_stderr);
    if (ok && (c->out = fdopen(from[0], "r"))) {
        c->in = in[1];
        in[1] = from[0] = -1;
    }
    int ends[] = {in[0], in[1], from[0], from[1]};
    for (int i = 0; i < 4; i++)
        if (ends[i] >= 0) close(ends[i]);
    *out = c;
    if (ok && c->out) return SWD_OK;
    swd_status s =
        SWD_FAIL(err, SWD_ERR_DEVICE, "%s cannot be started: %s", c->name, strerror(errno));
    if (!ok) c->pid = 0;
    child_stop(out, 1, NULL);
    return s;
}

swd_status child_write(child *c, const char *line, swd_err *err)
{
    struct iovec parts[] = {{(void *)(uintptr_t)line, strlen(line)}, {"\n", 1}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t all = (ssize_t)(parts[0].iov_len + 1), n;
    do n = sendmsg(c->in, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n == all) return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_DEVICE, "%s does not listen any more", c->name);
}

swd_status child_read(child *c, char *line, size_t n, swd_err *err)
{
    size_t used = 0;
    int ch;
    while ((ch = getc(c->out)) != EOF && ch != '\n' && ch != '\r')
        if (used + 1 < n) line[used++] = (char)ch;
    line[used] = '\0';
    if (ch == EOF && used == 0) return SWD_FAIL(err, SWD_ERR_DEVICE, "%s ended too early", c->name);
    return SWD_OK;
}

swd_status child_read_until(child *c, char *buf, size_t n, const char *text, swd_err *err)
{
    do SWD_TRY(child_read(c, buf, n, err), err);
    while (!strstr(buf, text));
    return SWD_OK;
}

double child_peak_bytes(const child *c)
{
    return machine_peak_bytes((long)c->pid);
}

swd_status child_stop(child **out, int kill_it, swd_err *err)
{
    child *c = *out;
    int status = 0;
    if (!c) return SWD_OK;
    if (c->in >= 0) close(c->in);
    if (c->pid > 0 && kill_it) kill(c->pid, SIGKILL);
    for (char rest[4096]; !kill_it && c->out && fread(rest, 1, sizeof rest, c->out) > 0;) {}
    if (c->out) fclose(c->out);
    bool waited = c->pid > 0 && waitpid(c->pid, &status, 0) == c->pid;
    swd_status s = SWD_OK;
    if (!kill_it && (!waited || !WIFEXITED(status) || WEXITSTATUS(status) != 0))
        s = SWD_FAIL(err, SWD_ERR_DEVICE, "%s failed (status %d)", c->name, status);
    free(c);
    *out = NULL;
    return s;
}
