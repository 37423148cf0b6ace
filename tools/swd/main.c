// SPDX-License-Identifier: MIT
/* swd COMMAND: the command line, on the public API alone. */
#include "commands.h"
#include "together.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    int bit;
    int (*run)(options *);
} commands[] = {{"generate", CMD_GENERATE, command_generate},
                {"tokenize", CMD_TOKENIZE, command_tokenize},
                {"encode", CMD_ENCODE, command_encode},
                {"decode", CMD_DECODE, command_decode},
                {"info", CMD_INFO, command_info},
                {"presets", CMD_PRESETS, command_presets},
                {"spectrum", CMD_SPECTRUM, command_spectrum},
                {"eval", CMD_EVAL, command_eval},
                {"bench", CMD_BENCH, command_bench}};
enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static int find_command(const char *name)
{
    int i = 0;
    while (i < N_COMMANDS && strcmp(name, commands[i].name) != 0) i++;
    return i;
}

static int unknown(const char *name)
{
    print_error("%s: no such command; swd help lists them", name);
    return EXIT_USAGE;
}

static int help(const char *about)
{
    if (about && strcmp(about, "train") == 0) return train_help(), EXIT_DONE;
    if (about && find_command(about) == N_COMMANDS) return unknown(about);
    help_print(about);
    return EXIT_DONE;
}

/* OpenMP's threads spin while they wait for each other, unless told otherwise before main() is reached: beside other work that makes
 * a picture ten times slower. Asleep at once they are slow to wake, a tenth of a small step (bench/LOG.md). So the program starts itself
 * once more with threads that spin for some microseconds and then sleep; a user's own choice stands. */
static void let_threads_sleep(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    if (setenv("OMP_WAIT_POLICY", "passive", 0) == 0 && setenv("GOMP_SPINCOUNT", "3000", 0) == 0)
        execv("/proc/self/exe", argv);
    /* where that is not possible it runs as it is */
}

/* A program may be started with its standard streams closed: the next file opened would take their place, and a message would go
 * into a picture. Results that nobody can read are still an error: the stand-in for standard output cannot be written. */
static void fill_closed_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 1 ? O_RDONLY : O_RDWR) < 0) _exit(1);
}

static int run_command(int i, int argc, char **argv)
{
    options o;
    int status = options_parse(&o, commands[i].bit, commands[i].name, argc, argv);
    if (status == EXIT_DONE && o.help)
        help_print(commands[i].name);
    else if (status == EXIT_DONE)
        status = commands[i].run(&o);
    options_free(&o);
    return status;
}

static int run(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (argc < 2) {
        print_error("no command; try: swd generate \"a red apple, 3d emoji\", or swd help");
        return EXIT_USAGE;
    }
    if (strcmp(name, "--version") == 0) {
        printf("swd %s\n", swd_version());
        return EXIT_DONE;
    }
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return help(argc > 2 ? argv[2] : NULL);
    if (strcmp(name, "train") == 0) {
        int joined = together_begin();
        return joined == EXIT_DONE ? together_end(command_train(argc, argv)) : joined;
    }
    int i = find_command(name);
    if (i == N_COMMANDS) return unknown(name);
    if (commands[i].bit != CMD_GENERATE) return run_command(i, argc, argv);
    int joined = together_begin();
    return joined == EXIT_DONE ? together_end(run_command(i, argc, argv)) : joined;
}

int main(int argc, char **argv)
{
    fill_closed_streams();
    let_threads_sleep(argv);
    int status = run(argc, argv);
    if (status == EXIT_DONE && (fflush(stdout) != 0 || ferror(stdout))) {
        print_error("standard output cannot be written: the result is lost; is its disk full?");
        status = EXIT_FAILED;
    }
    return status;
}
